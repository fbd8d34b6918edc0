"""Facts that a checkpoint records about its training, so that it is not resumed as another one."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ppfacerec.core.log import logger
from ppfacerec.core.version import __version__
from ppfacerec.data.datasets.base import TrainDataset, class_name
from ppfacerec.data.datasets.class_identity import ClassIdentity
from ppfacerec.training.state import Progress

# Belongs to a run, not to a training.
_NOT_SHOWN = ("Global.checkpoints",)
_ABSENT = "(not set)"
Saved = TypeVar("Saved")


@dataclass(frozen=True)
class Pace:
    """How a training goes through its data."""

    global_batch_size: int  # samples per iteration, over all ranks
    update_freq: int  # iterations per optimizer step
    iterations: int  # per epoch

    @property
    def steps(self) -> int:
        """Optimizer steps per epoch."""
        return -(-self.iterations // self.update_freq)

    def translate(self, progress: Progress, old: Pace) -> Progress:
        """Convert progress from an `old` pace: to the same samples, and the same place in the schedule.

        A position inside an optimizer step moves to the step's beginning, so that a few samples may be repeated.
        """
        if self == old:
            return progress
        seen = progress.iteration * old.global_batch_size
        iteration = seen // (self.global_batch_size * self.update_freq) * self.update_freq
        if progress.iteration == old.iterations:
            iteration = self.iterations
        step = (progress.epoch - 1) * self.steps + -(-iteration // self.update_freq)
        logger.warning(
            "The total batch is %d x update_freq %d, it was %d x %d: iteration %d of epoch %d is now %d, optimizer "
            "step %d is %d. The order of the samples is kept (%d of them are repeated in this epoch), but the result "
            "is not bit-identical to that of the other batch.",
            self.global_batch_size, self.update_freq, old.global_batch_size, old.update_freq, progress.iteration,
            progress.epoch, iteration, progress.global_step, step, max(seen - iteration * self.global_batch_size, 0),
        )  # fmt: skip
        return dataclasses.replace(progress, iteration=iteration, global_step=step)


@dataclass(frozen=True)
class RunFacts:
    """Facts about a training that a checkpoint records."""

    config: Mapping[str, Any]  # the whole config, as nested dicts
    identity: Mapping[str, Any]  # values that must not change when resuming, by dotted key
    pace: Pace
    people: ClassIdentity  # identities of the classes
    run: str = field(default_factory=lambda: uuid.uuid4().hex)  # unique identifier of the training

    @classmethod
    def of_states(cls, states: Mapping[str, Any], prefix: Path) -> RunFacts:
        """Read the facts in a checkpoint's .pdstates; raise a ValueError if one is missing or damaged."""
        file, names = f"{prefix}.pdstates", ("config", "identity", "pace", "people", "run", "progress", "scaler")
        missing = [name for name in names if name not in states]
        if missing:
            raise ValueError(f"{file} is damaged: it has no {', '.join(missing)}. Resume from another checkpoint.")
        pace, people = known_fields(Pace, states["pace"], file), known_fields(ClassIdentity, states["people"], file)
        return cls(states["config"], states["identity"], pace, people, states["run"])


def known_fields(kind: type[Saved], values: Mapping[str, Any], file: str) -> Saved:
    """Build a dataclass from its values in a file; raise a ValueError if they are of a newer version or damaged."""
    names = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - names)
    if unknown:
        raise ValueError(
            f"{file} has {', '.join(unknown)}, which this version of ppfacerec ({__version__}) does not support: a "
            "newer one wrote it. Resume with that version, or start from the weights with Global.pretrained_model."
        )
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{file} is damaged: {error}.") from error


def check_same_training(prefix: Path, saved: RunFacts, now: RunFacts, dataset: TrainDataset) -> None:
    """Raise a ValueError where going on would be meaningless, with every key and every person that differs."""
    changes = [f"{key} was {old}, is {new}" for key, old, new in _differences(saved.identity, now.identity)]
    if not changes:
        changes = list(filter(None, [saved.people.difference(now.people, lambda label: class_name(dataset, label))]))
        if not changes and saved.people.samples != now.people.samples:
            logger.warning(
                "The training data have the same identities, but in another order or with other images than at %s: "
                "training continues, but the weights will differ from those of an uninterrupted run.", prefix,
            )  # fmt: skip
    if changes:
        raise ValueError(
            f"{prefix} is a checkpoint of another training: {'; '.join(changes)}. Change that back to resume; or start "
            f"a new training from its weights, with -o Global.pretrained_model={prefix} in place of "
            "Global.checkpoints, in another output_dir."
        )


def log_config_changes(saved: RunFacts, now: RunFacts) -> None:
    """Log the changes of the config since the checkpoint, one dotted key per line."""
    changes = config_changes(saved.config, now.config)
    if changes:
        logger.info("Changed in the config since the checkpoint:\n%s", "\n".join(f"  {line}" for line in changes))


def config_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return ``"Optimizer.lr.learning_rate: 0.1 -> 0.01"`` for every value that differs."""
    changes = _differences(dict(flat(old)), dict(flat(new)))
    return [f"{key}: {before} -> {after}" for key, before, after in changes if key not in _NOT_SHOWN]


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if before != after:
            yield key, before, after


def flat(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value with its dotted key, in which list positions are numbers."""
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, (list, tuple)) else None
    if items is None or not tree:
        yield path, tree
        return
    for key, value in items:
        yield from flat(value, f"{path}.{key}" if path else str(key))
