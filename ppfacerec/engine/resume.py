"""Going on from a checkpoint: which one, whether it is of this training, and everything back in its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from ppfacerec import distributed
from ppfacerec.config import weights_file
from ppfacerec.engine.checkpoint import check_files, check_finite, read_states
from ppfacerec.engine.checkpoint_files import (
    broken_names,
    clean_up,
    complete_names,
    finish_interrupted_save,
    foreign_names,
    plain_prefix,
)
from ppfacerec.engine.optimizer_state import set_optimizer_state
from ppfacerec.engine.paddleclas_checkpoint import is_paddleclas, resume_paddleclas
from ppfacerec.engine.run_facts import RunFacts, check_same_training, known_fields, say_changes
from ppfacerec.engine.run_lock import lock_if_free
from ppfacerec.engine.state import Progress, TrainState
from ppfacerec.engine.weights import match_weights, read_weights, set_weights
from ppfacerec.failures import remove_old_notes
from ppfacerec.log import logger

AUTO = "auto"


def find_checkpoint(checkpoints: Optional[str], output_dir: Path) -> Optional[Path]:
    """What ``Global.checkpoints`` stands for, its files checked, the same on every rank; None starts anew.

    All ranks call it.

    Args:
        checkpoints: a checkpoint; "auto", the newest complete one in `output_dir`, or none if there is none; or None.
        output_dir: which this run has locked.

    Raises:
        ValueError: the checkpoint is damaged, or "auto" and all that is there is.
    """
    found = ""
    with distributed.failing_together():
        if distributed.rank() == 0:
            clean_up(output_dir)
            remove_old_notes(output_dir)
            found = str(_found(checkpoints, output_dir) or "")
    found = distributed.gather_texts(found)[0]
    return Path(found) if found else None


def _found(checkpoints: Optional[str], output_dir: Path) -> Optional[Path]:
    if checkpoints == AUTO:
        return newest_complete(output_dir)
    if checkpoints is None:
        there = [*complete_names(output_dir), *foreign_names(output_dir)]
        if there:
            logger.warning(
                "%s has checkpoints of an earlier run (the newest: %s), which this one, as it starts anew, will "
                "overwrite. To go on from there: -o Global.checkpoints=auto", output_dir, there[0],
            )  # fmt: skip
        return None
    prefix = plain_prefix(checkpoints)
    if is_paddleclas(prefix):
        return prefix
    with lock_if_free(prefix.parent) as locked:
        if locked or prefix.parent.resolve() == output_dir.resolve():  # else a run there is perhaps just saving
            finish_interrupted_save(prefix)
    check_files(prefix)
    newer = _newer_than(prefix)
    if newer:
        logger.warning("%s is newer than %s; Global.checkpoints=auto takes the newest.", prefix.parent / newer, prefix)
    return prefix


def _newer_than(prefix: Path) -> Optional[str]:
    names = list(complete_names(prefix.parent))
    return names[0] if prefix.name in names and names[0] != prefix.name else None


def newest_complete(folder: Path) -> Optional[Path]:
    """The newest checkpoint whose files are all as they were saved, or None where there is none at all.

    Raises:
        ValueError: there are some, and every one is damaged.
    """
    problems = list(broken_names(folder).values())
    for name in complete_names(folder):
        try:
            check_files(folder / name)
            check_finite(folder / name, read_weights(folder / name))
        except ValueError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            logger.warning("%s", problem)
        return folder / name
    if problems:
        raise ValueError(
            f"Global.checkpoints is auto, but {folder} has no complete checkpoint: {' '.join(problems)} To start anew, "
            "give another output_dir, or remove them."
        )
    foreign = foreign_names(folder)
    if foreign:
        raise ValueError(
            f"Global.checkpoints is auto, but {folder} has {', '.join(foreign)} without a manifest (PaddleClas's?), "
            f"which a training would overwrite. To go on from one: -o Global.checkpoints={folder / foreign[0]}; to "
            "start anew, give another output_dir."
        )
    logger.info("Global.checkpoints is auto, and %s has no checkpoint: starting from the beginning.", folder)
    return None


def resume(prefix: Path, state: TrainState, facts: RunFacts) -> RunFacts:
    """Give a training the state that a checkpoint holds; return the facts with the run's name.

    Args:
        prefix: from ``find_checkpoint``, which has compared the files with their checksums.
        state: of this run.
        facts: of this run.

    Raises:
        ValueError: the checkpoint is of another training than `facts` tell; the message names every key that differs.
    """
    if is_paddleclas(prefix):
        resume_paddleclas(prefix, state, facts.pace.steps)
        return facts
    optimizer, states = read_states(prefix)
    saved = RunFacts.of_states(states, prefix)
    if saved:
        check_same_training(prefix, saved, facts)
        say_changes(saved, facts)
    recognizer, weights = state.recognizer, read_weights(prefix)
    check_finite(prefix, weights)
    problems = match_weights(recognizer, weights).problems("")
    if problems:
        raise ValueError(f"{weights_file(str(prefix))} does not fit the network of the config: {'; '.join(problems)}.")
    set_weights(recognizer, weights)
    set_optimizer_state(state, optimizer)
    if state.precision.level is not None and states["scaler"]:
        state.precision.scaler.load_state_dict(states["scaler"])
    if state.ema:
        state.ema.load_state(states.get("ema", weights))
    state.progress = progress = _progress(states, prefix, saved, facts)
    logger.info(
        "Resumed from %s: epoch %d, iteration %d, optimizer step %d, best accuracy %s.",
        prefix, progress.epoch, progress.iteration, progress.global_step,
        "none yet" if progress.best_accuracy is None else f"{progress.best_accuracy:.5f}",
    )  # fmt: skip
    return facts.of_same_run(saved) if saved else facts


def _progress(states: Mapping[str, Any], prefix: Path, saved: Optional[RunFacts], facts: RunFacts) -> Progress:
    progress = known_fields(Progress, states["progress"], f"{prefix}.pdstates")
    return facts.pace.translate(progress, saved.pace) if saved else progress
