"""Resume from a checkpoint of PaddleClas: all weights, the optimizer state if its names can be resolved, the epoch.

PaddleClas saves with ``paddle.save``: ``.pdparams`` is the state dict by structured names (``head.weight``), ``.pdopt``
the optimizer's (in newer versions a list of them) by automatic names (``arc_margin_0.w_0_moment1_0``), ``.pdstates``
the metric and the number of finished epochs. With EMA, ``.pdparams`` has the averages and ``.pdema`` the weights. The
automatic name of a weight depends on what was built before it. Two rules resolve it:

1. ``paddle.save`` adds a table of both names to a state dict, ``StructuredToParameterName@@``. It is reliable.
2. Without the table, as in a file that was loaded and saved again: an optimizer keeps each kind of its state in the
   order of the trained parameters, which is that of ``.pdparams``. This is accepted only if there is one for each
   trained parameter, and all shapes match one by one.

The optimizer state is used for all trained parameters or for none: Paddle does not support partial state.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from ppfacerec.core.io import safe_pickle
from ppfacerec.core.log import logger
from ppfacerec.recognizer import HEAD_WEIGHT, FaceRecognizer
from ppfacerec.training.checkpoints.files.checkpoint_files import MANIFEST, file_of, plain_prefix
from ppfacerec.training.checkpoints.optimizer_state import set_optimizer_state
from ppfacerec.training.checkpoints.pretrained import match_weights, set_weights
from ppfacerec.training.checkpoints.saved_layout import saved_shapes
from ppfacerec.training.ema import EMA
from ppfacerec.training.state import Progress, TrainState
from ppfacerec.weights.read import read_any

AUTOMATIC_NAMES = "StructuredToParameterName@@"
_MASTERS = "master_weights"  # float32 copies of half-precision weights (AMP O2), by automatic names
_MASTER_SLOT = "fp32_master_0_"  # marks optimizer state that belongs to master weights
# An optimizer's state for a parameter, and whether it has the parameter's shape (else a single number).
_ADAM = {"moment1_0": True, "moment2_0": True, "beta1_pow_acc_0": False, "beta2_pow_acc_0": False}
_SLOTS: Mapping[str, Mapping[str, bool]] = {"Adam": _ADAM, "AdamW": _ADAM, "Momentum": {"velocity_0": True}, "SGD": {}}

Arrays = Mapping[str, np.ndarray]
Slots = dict[str, dict[str, np.ndarray]]  # structured name -> kind of state -> array


def is_paddleclas(prefix: str | Path) -> bool:
    """Whether PaddleClas wrote a checkpoint: it has no manifest, and none of our progress in .pdstates."""
    prefix = plain_prefix(prefix)
    if file_of(prefix, MANIFEST).exists():
        return False
    if file_of(prefix, ".pdstates").is_file():
        return "progress" not in _states(prefix)
    optimizer = file_of(prefix, ".pdopt")
    content = safe_pickle.load(optimizer) if optimizer.is_file() else {}
    return isinstance(content, list) or (isinstance(content, Mapping) and "LR_Scheduler" in content)


def resume_paddleclas(prefix: str | Path, state: TrainState, steps_per_epoch: int) -> None:
    """Load a PaddleClas checkpoint into a fresh training; log what was used and what was not.

    Args:
        prefix: ``output/RecModel/latest``.
        steps_per_epoch: optimizer steps, for the position in the schedule.

    Raises:
        ValueError: a file is damaged, or the weights belong to another network.
    """
    prefix = plain_prefix(prefix)
    raw = file_of(prefix, ".pdema")
    path = raw if raw.is_file() else file_of(prefix, ".pdparams")
    recognizer, ema = state.recognizer, state.ema
    weights = _fitting(path, recognizer)
    masters, slots, why_not = _optimizer_state(prefix, list(weights), name_table(path), state)
    set_weights(recognizer, {**weights, **masters})
    if slots:
        set_optimizer_state(state, slots)
    if ema:
        ema.load_state(_fitting(file_of(prefix, ".pdparams"), recognizer))
    states = _states(prefix)
    epoch = states.get("epoch", 0)
    if isinstance(epoch, bool) or not isinstance(epoch, (int, np.integer)) or epoch < 0:
        raise ValueError(f"{prefix}.pdstates: expected the number of finished epochs as 'epoch', found {epoch!r}.")
    epoch = int(epoch)
    state.progress = progress = Progress(epoch=epoch + 1, global_step=epoch * steps_per_epoch)
    logger.info(
        "Resuming from PaddleClas's checkpoint %s with epoch %d, optimizer step %d.\n  taken: %s\n  not taken: %s",
        prefix, progress.epoch, progress.global_step,
        "; ".join(_taken(path, weights, masters, slots, ema)), "; ".join([*why_not, *_not_in(states), *_NEVER]),
    )  # fmt: skip


_NEVER = (
    "the order of samples and random numbers (each program has its own)",
    "the learning rate (the schedule of the config gives it, at this step)",
)


def _taken(path: Path, weights: Arrays, masters: Arrays, slots: Slots, ema: EMA | None) -> list[str]:
    lines = [f"{len(weights)} weights of {path.name}"]
    if masters:
        lines.append(f"{len(masters)} of them as the float32 weights in .pdopt")
    if ema:
        lines.append("the averages of .pdparams")
    if slots:
        kinds = ", ".join(next(iter(slots.values())))
        lines.append(f"the optimizer's state ({kinds}) of all {len(slots)} trained parameters")
    return lines


def _not_in(states: Mapping[str, Any]) -> Iterator[str]:
    if "epoch" not in states:
        yield "the number of finished epochs (missing in .pdstates)"
    if "metric" in states:
        yield f"the best metric, {states['metric']} (from a different evaluation; best_model is chosen from scratch)"


def _states(prefix: Path) -> Mapping[str, Any]:
    path = file_of(prefix, ".pdstates")
    states = safe_pickle.load(path) if path.is_file() else {}
    if not isinstance(states, Mapping):
        raise ValueError(f"{path}: expected a dict with 'epoch' and 'metric', found {type(states).__name__}.")
    return states


def _fitting(path: Path, recognizer: FaceRecognizer) -> dict[str, np.ndarray]:
    weights = read_any(path).state_dict()
    problems = match_weights(recognizer, weights).problems("")
    if problems:
        raise ValueError(f"{path} does not fit the network of the config: {'; '.join(problems)}.")
    return weights


def _optimizer_state(
    prefix: Path, order: list[str], table: Mapping[str, str], training: TrainState
) -> tuple[dict[str, np.ndarray], Slots, list[str]]:  # fmt: skip
    """Return the float32 master weights, the optimizer state, and reasons for what is not used."""
    path = file_of(prefix, ".pdopt")
    if not path.is_file():
        return {}, {}, [f"the optimizer's state ({path.name} is not there)"]
    (kept, kept_masters), kinds = _read_state(path), _SLOTS.get(type(training.optimizer).__name__)
    recognizer, sampled = training.recognizer, training.sparse is not None
    tensors, shapes = recognizer.state_dict(), saved_shapes(recognizer)
    trained = [name for name in order if not tensors[name].stop_gradient or (name == HEAD_WEIGHT and sampled)]
    table = {automatic: name for automatic, name in table.items() if name in shapes}
    is_used = any(key.startswith(f"{automatic}_") for automatic in table for key in kept)
    names = table if is_used else _names_by_order(kept, trained, shapes, kinds or {})
    is_half = {name: tensor.dtype != paddle.float32 for name, tensor in tensors.items()}
    masters = {
        names[automatic]: array
        for automatic, array in kept_masters.items()
        if automatic in names and array.shape == shapes[names[automatic]] and not is_half[names[automatic]]
    }
    if not kinds:
        return masters, {}, ["the optimizer's state (the config's optimizer keeps none)"]
    slots, problem = _slots(kept, names, trained, shapes, kinds)
    if problem:
        return masters, {}, [f"the optimizer's state ({problem}); it starts from scratch"]
    for name, arrays in slots.items():
        if is_half[name]:
            slots[name] = {f"{_MASTER_SLOT}{kind}": array for kind, array in arrays.items()}
    return masters, slots, []


def _slots(
    tensors: Arrays, names: Mapping[str, str], trained: list[str], shapes: Mapping[str, tuple[int, ...]],
    kinds: Mapping[str, bool],
) -> tuple[Slots, str]:  # fmt: skip
    """Return the state of all trained parameters; or nothing, and why."""
    automatic = {structured: name for name, structured in names.items()}
    slots: Slots = {}
    for name in trained:
        if name not in automatic:
            return {}, f"{name}'s automatic name is unknown: neither a table in .pdparams nor the order determines it"
        for kind, as_parameter in kinds.items():
            keys = (f"{automatic[name]}_{kind}", f"{automatic[name]}_{_MASTER_SLOT}{kind}")
            array = next((tensors[key] for key in keys if key in tensors), None)
            if array is None:
                return {}, f"it has no {kind} for {name}: it is from another optimizer, or {name} was not trained"
            fits = array.shape == shapes[name] if as_parameter else array.size == 1
            if not fits or array.dtype.kind != "f":
                return {}, f"{kind} of {name} has shape {array.shape} and dtype {array.dtype}"
            slots.setdefault(name, {})[kind] = array.astype(np.float32)
    return slots, ""


def name_table(path: Path) -> dict[str, str]:
    """Return the table automatic name -> structured name of ``paddle.save``; empty if there is none."""
    table = safe_pickle.load(path).get(AUTOMATIC_NAMES, {})
    if not isinstance(table, Mapping):
        return {}
    full = {
        str(automatic): name if str(name).startswith(("backbone.", "head.")) else f"backbone.{name}"
        for name, automatic in table.items()
    }
    return full if len(full) == len(table) else {}


def _names_by_order(
    tensors: Arrays, trained: list[str], shapes: Mapping[str, tuple[int, ...]], kinds: Mapping[str, bool]
) -> dict[str, str]:
    """Infer the same table from the order of the optimizer's state, if number and shapes match."""
    kind = next((kind for kind, as_parameter in kinds.items() if as_parameter), None)
    found = {key[: -len(kind) - 1]: array for key, array in tensors.items() if kind and key.endswith(f"_{kind}")}
    if [array.shape for array in found.values()] != [shapes[name] for name in trained]:
        return {}
    return {automatic.removesuffix(f"_{_MASTER_SLOT[:-1]}"): name for automatic, name in zip(found, trained)}


def _read_state(path: Path) -> tuple[Arrays, Arrays]:
    """Read the optimizer's tensors and the master weights in .pdopt, by automatic names."""
    content = safe_pickle.load(path)
    parts = content if isinstance(content, list) else [content]
    tensors: dict[str, np.ndarray] = {}
    masters: dict[str, np.ndarray] = {}
    for part in parts:
        if not isinstance(part, Mapping):
            raise ValueError(f"{path}: expected an optimizer's state dict, found {type(part).__name__}.")
        inner = part.get(_MASTERS)
        masters.update(_arrays(inner if isinstance(inner, Mapping) else {}))
        tensors.update(_arrays(part))
    return tensors, masters


def _arrays(content: Mapping[Any, Any]) -> dict[str, np.ndarray]:
    """Return the tensors in a dict; in nested containers, ``paddle.save`` writes each as (name, array)."""
    plain = {str(k): v[1] if isinstance(v, tuple) and len(v) == 2 else v for k, v in content.items()}
    return {name: value for name, value in plain.items() if isinstance(value, np.ndarray)}
