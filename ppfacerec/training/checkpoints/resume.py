"""Resume from a checkpoint: find it, check that it belongs to this training, and restore the state."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ppfacerec.config import weights_file
from ppfacerec.core import distributed
from ppfacerec.core.distributed import ALONE, Disks
from ppfacerec.core.log import logger
from ppfacerec.data.datasets.base import TrainDataset
from ppfacerec.training.checkpoints.checkpoint import check_files, read_states
from ppfacerec.training.checkpoints.files.checkpoint_files import (
    clean_up,
    complete_names,
    finish_interrupted_save,
    foreign_names,
    manifests,
    plain_prefix,
    sha256,
)
from ppfacerec.training.checkpoints.files.head_shards import whole_arrays
from ppfacerec.training.checkpoints.files.manifest import Manifest
from ppfacerec.training.checkpoints.files.run_lock import lock_if_free
from ppfacerec.training.checkpoints.optimizer_state import set_optimizer_state
from ppfacerec.training.checkpoints.paddleclas_checkpoint import is_paddleclas, resume_paddleclas
from ppfacerec.training.checkpoints.pretrained import match_weights, read_weights, set_weights
from ppfacerec.training.checkpoints.run_facts import RunFacts, check_same_training, known_fields, log_config_changes
from ppfacerec.training.state import Progress, TrainState

AUTO = "auto"


@dataclass(frozen=True)
class Found:
    """The checkpoint that all ranks resume from."""

    prefix: Path  # on the ranks that have it
    source: int = 0  # a rank that has it
    is_everywhere: bool = True  # every rank has the same files; else `source` sends their content


def find_checkpoint(checkpoints: str | None, output_dir: Path, disks: Disks = ALONE) -> Found | None:
    """Resolve ``Global.checkpoints`` and check its files, the same on every rank; None starts from the beginning.

    Among the disks of all ranks, the checkpoint furthest in the training wins. All ranks call it.

    Args:
        checkpoints: a checkpoint; "auto", the newest complete one in `output_dir`, or none if there is none; or None.
        output_dir: locked by this run.

    Raises:
        ValueError: the checkpoint is damaged, or "auto" finds only damaged ones; or the disks have checkpoints of
            different trainings.
    """
    offer: dict[str, Any] | None = None
    with distributed.failing_together():
        if disks.is_leader:
            clean_up(output_dir)
            found = _found(checkpoints, output_dir)
            offer = None if found is None else _offer(found)
    offers = [json.loads(text) for text in distributed.gather_texts(json.dumps(offer))]
    found_by = {number: one for number, one in enumerate(offers) if one is not None}
    if not found_by:
        if checkpoints == AUTO:
            logger.info(
                "Global.checkpoints is auto, and %s has no checkpoint: starting from the beginning.", output_dir
            )
        elif checkpoints is not None:
            where = "or is not a checkpoint" if disks.is_shared else f"on no machine: {distributed.describe_ranks()}"
            raise ValueError(f"Global.checkpoints: {weights_file(checkpoints)} does not exist ({where}).")
        return None
    source = max(found_by, key=lambda number: (tuple(found_by[number]["place"]), -number))
    chosen = found_by[source]
    leaders = set(disks.leaders)
    same = all(number in found_by and found_by[number]["digest"] == chosen["digest"] for number in leaders)
    if not same:
        _log_choice(found_by, source, leaders)
    return Found(Path(chosen["prefix"]), source, same)


def _offer(prefix: Path) -> dict[str, Any]:
    """Describe a checkpoint to ranks with other disks."""
    if is_paddleclas(prefix):
        return {"prefix": str(prefix), "run": "PaddleClas's", "place": [0, 0, 0],
                "digest": sha256(prefix.with_name(f"{prefix.name}.pdparams"))}  # fmt: skip
    manifest = Manifest.read(prefix)
    return {"prefix": str(prefix), "run": manifest.run, "place": list(manifest.place()), "digest": manifest.digest()}


def _log_choice(found_by: Mapping[int, Mapping[str, Any]], source: int, leaders: set[int]) -> None:
    name_of = distributed.meeting().name_of
    has = "; ".join(
        f"{name_of(number)}: {found_by[number]['prefix']}, optimizer step {found_by[number]['place'][0]}"
        if number in found_by else f"{name_of(number)}: none"
        for number in sorted(leaders)
    )  # fmt: skip
    if len({one["run"] for one in found_by.values()}) > 1:
        raise ValueError(
            f"The machines have checkpoints of different trainings ({has}). Remove those that should not be resumed, "
            "or name a checkpoint with Global.checkpoints."
        )
    logger.warning("The machines have different checkpoints (%s): all resume from %s's.", has, name_of(source))


def _found(checkpoints: str | None, output_dir: Path) -> Path | None:
    if checkpoints == AUTO:
        return newest_complete(output_dir)
    if checkpoints is None:
        there = [*complete_names(output_dir), *foreign_names(output_dir)]
        if there:
            logger.warning(
                "%s has checkpoints of an earlier run (the newest: %s), which this run, starting from scratch, will "
                "overwrite. To resume from it: -o Global.checkpoints=auto", output_dir, there[0],
            )  # fmt: skip
        return None
    prefix = plain_prefix(checkpoints)
    if distributed.world_size() > 1 and not Path(weights_file(checkpoints)).is_file():
        return None  # another machine may have it
    if is_paddleclas(prefix):
        return prefix
    with lock_if_free(prefix.parent) as locked:
        if locked or prefix.parent.resolve() == output_dir.resolve():  # else a run there may be saving
            finish_interrupted_save(prefix)
    check_files(prefix)
    newest, *others = complete_names(prefix.parent) or [""]
    if prefix.name in others:
        logger.warning("%s is newer than %s; Global.checkpoints=auto takes the newest.", prefix.parent / newest, prefix)
    return prefix


def newest_complete(folder: Path) -> Path | None:
    """Return the newest intact checkpoint, or None if there are none; raise a ValueError if all are damaged."""
    _, problems = manifests(folder)
    for name in complete_names(folder):
        try:
            check_files(folder / name)
        except ValueError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            logger.warning("%s", problem)
        return folder / name
    if problems:
        raise ValueError(
            f"Global.checkpoints is auto, but {folder} has no complete checkpoint: {' '.join(problems)} To start from "
            "scratch, give another output_dir, or remove them."
        )
    foreign = foreign_names(folder)
    if foreign:
        raise ValueError(
            f"Global.checkpoints is auto, but {folder} has {', '.join(foreign)} without a manifest (PaddleClas's?), "
            f"which a training would overwrite. To resume from one: -o Global.checkpoints={folder / foreign[0]}; to "
            "start from scratch, give another output_dir."
        )
    return None


def resume(found: Found, state: TrainState, facts: RunFacts, dataset: TrainDataset) -> RunFacts:
    """Load a checkpoint into a training; return the facts of this run with the run identifier of the checkpoint.

    Args:
        found: from ``find_checkpoint``, which has verified the checksums.
        dataset: for people's names.

    Raises:
        ValueError: the checkpoint is of another training than `facts`; the message lists every key that differs.
    """
    prefix = found.prefix
    if found.is_everywhere and is_paddleclas(prefix):
        resume_paddleclas(prefix, state, facts.pace.steps)
        return facts
    content = _content(found)
    states, weights = content["states"], content["weights"]
    saved = RunFacts.of_states(states, prefix)
    check_same_training(prefix, saved, facts, dataset)
    log_config_changes(saved, facts)
    recognizer = state.recognizer
    problems = match_weights(recognizer, weights).problems("")
    if problems:
        raise ValueError(f"{weights_file(str(prefix))} does not fit the network of the config: {'; '.join(problems)}.")
    set_weights(recognizer, weights)
    set_optimizer_state(state, content["optimizer"])
    if state.precision.level is not None and states["scaler"]:
        state.precision.scaler.load_state_dict(states["scaler"])
    if state.ema:
        state.ema.load_state(states.get("ema", weights))
    progress = known_fields(Progress, states["progress"], f"{prefix}.pdstates")
    state.progress = progress = facts.pace.translate(progress, saved.pace)
    logger.info(
        "Resumed from %s: epoch %d, iteration %d, optimizer step %d, best accuracy %s.",
        prefix, progress.epoch, progress.iteration, progress.global_step,
        "none yet" if progress.best_accuracy is None else f"{progress.best_accuracy:.5f}",
    )  # fmt: skip
    return replace(facts, run=saved.run)


def _content(found: Found) -> Mapping[str, Any]:
    """Return the contents of the files, read by every rank, or by one for all if the others lack them."""
    content: dict[str, Any] | None = None
    with distributed.failing_together():
        if found.is_everywhere or distributed.rank() == found.source:
            if not found.is_everywhere and is_paddleclas(found.prefix):
                raise ValueError(f"{found.prefix} is PaddleClas's and not on all machines: copy it to the others.")
            optimizer, states = read_states(found.prefix)
            content = {"optimizer": optimizer, "states": states, "weights": read_weights(found.prefix)}
    if found.is_everywhere:
        assert content is not None
        return content
    return distributed.share_tree(whole_arrays(content), found.source)
