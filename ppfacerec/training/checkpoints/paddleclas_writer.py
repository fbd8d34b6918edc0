"""Write our checkpoint as PaddleClas would, to resume training there: the inverse of paddleclas_checkpoint.py.

Its ``.pdopt`` has Paddle's automatic names, which depend on everything that PaddleClas built before. They are taken
from the table in a checkpoint that PaddleClas saved for the same config (one iteration is enough).
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ppfacerec.core.io import safe_pickle
from ppfacerec.core.io.atomic_file import atomic_write
from ppfacerec.optim import SCHEDULES
from ppfacerec.training.checkpoints.checkpoint import load_states
from ppfacerec.training.checkpoints.paddleclas_checkpoint import AUTOMATIC_NAMES, name_table
from ppfacerec.training.checkpoints.pretrained import read_weights
from ppfacerec.training.checkpoints.run_facts import known_fields
from ppfacerec.training.state import Progress

_MASTER = "master_weight"


def write_paddleclas(source: Path, target: Path, like: Path) -> list[Path]:
    """Write ``target.pdparams``, ``.pdopt`` and ``.pdstates``; return the files.

    Args:
        source: our checkpoint at the end of an epoch, such as ``output/X/epoch_3``.
        target: path without suffix.
        like: a PaddleClas checkpoint of the same network and optimizer.

    Raises:
        ValueError: a checkpoint is damaged, in mid-epoch or sharded, or `like` belongs to another network.
    """
    optimizer, states = load_states(source)
    progress = known_fields(Progress, states["progress"], f"{source}.pdstates")
    if progress.iteration:
        raise ValueError(
            f"{source} is in the middle of epoch {progress.epoch}, where PaddleClas cannot resume; use an epoch_N."
        )
    weights = read_weights(source)
    if not all(isinstance(array, np.ndarray) for array in weights.values()):
        raise ValueError(f"{source} has its head in shards; train on with Global.save_head: True, then convert.")
    automatic = {name: auto for auto, name in name_table(like.with_name(f"{like.name}.pdparams")).items()}
    missing = sorted(set(weights) ^ set(automatic))
    if missing:
        raise ValueError(
            f"{like} is not a checkpoint of this network, saved by PaddleClas with its table of names: {missing[:3]} "
            f"of {len(missing)} differ. Start PaddleClas with the same config for one epoch, and give its checkpoint."
        )
    theirs = safe_pickle.load(like.with_name(f"{like.name}.pdopt"))
    theirs = theirs[0] if isinstance(theirs, list) else theirs
    contents = {
        ".pdparams": {**weights, AUTOMATIC_NAMES: {name: automatic[name] for name in weights}},
        ".pdopt": [{**_slots(optimizer, automatic), "LR_Scheduler": _scheduler(theirs["LR_Scheduler"], states)}],
        ".pdstates": {"epoch": progress.epoch - 1, "metric": progress.best_accuracy or 0.0},
    }
    files = []
    for suffix, content in contents.items():
        files.append(target.with_name(target.name + suffix))
        with atomic_write(files[-1]) as file:
            pickle.dump(content, file, protocol=4)
    return files


def _slots(optimizer: Mapping[str, Mapping[str, np.ndarray]], automatic: Mapping[str, str]) -> dict[str, Any]:
    """Return the state by automatic names, as pairs (name, array), as ``paddle.save`` writes tensors in a list."""
    tensors: dict[str, Any] = {}
    masters = {}
    for name, slots in optimizer.items():
        for slot, array in slots.items():
            key, array = f"{automatic[name]}_{slot}", np.ascontiguousarray(array)
            if slot == _MASTER:
                masters[automatic[name]] = (automatic[name], array)
            else:
                tensors[key] = (key, array)
    return {**tensors, "master_weights": masters} if masters else tensors


def _scheduler(theirs: Mapping[str, Any], states: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of PaddleClas's schedule at this step; like ours, it counts steps."""
    lr, pace = dict(states["config"]["Optimizer"]["lr"]), states["pace"]
    base = lr.pop("base_batch_size", None)
    schedule = SCHEDULES.get(lr.pop("name"))(
        **lr,
        epochs=states["config"]["Global"]["epochs"],
        steps_per_epoch=-(-pace["iterations"] // pace["update_freq"]),
    )
    step = states["progress"]["global_step"]
    factor = pace["global_batch_size"] * pace["update_freq"] / base if base else 1.0
    ours = {"last_epoch": step, "last_lr": schedule(step) * factor}
    if "LinearWarmup_LR" in theirs:  # its inner schedule is recomputed from the outer step
        inner = max(step - schedule.warmup_steps, 0)
        ours["LinearWarmup_LR"] = {"last_epoch": inner, "last_lr": schedule.after_warmup(inner) * factor}
    return {**theirs, **ours}
