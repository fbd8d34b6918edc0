"""Read weights of any supported format, under Paddle's names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ppfacerec.core.io import safe_pickle
from ppfacerec.core.io.user_files import open_regular
from ppfacerec.core.log import logger
from ppfacerec.core.registry import Spec
from ppfacerec.weights.architecture import identify
from ppfacerec.weights.formats.safetensors_file import read_safetensors
from ppfacerec.weights.formats.torch_file import TorchFile
from ppfacerec.weights.formats.torch_machine import Unread
from ppfacerec.weights.formats.torch_tensors import TensorView, from_bfloat16
from ppfacerec.weights.names import PYTORCH_WRAPPERS, from_fresresnet, from_pytorch, is_pytorch, split_head

Source = Literal["paddleclas", "insightface", "adaface", "plsc"]
Format = Literal["paddle", "torch", "safetensors"]

# Keys of the state dict in checkpoints of other programs, in order of precedence.
_NESTED = ("state_dict", "state_dict_backbone", "model_state_dict", "model", "backbone", "net")
_INSIGHTFACE_HEAD = "state_dict_softmax_fc"  # of train_v2.py: the rank's shard of the class centres, (C / ranks, D)
_PADDLE_NAMES = "StructuredToParameterName@@"  # what paddle.save adds to a state dict
_SPACE_FACTOR = 4  # largest size of all arrays by the file's: tied ones expand
_MOST_TENSORS = 100_000
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"


@dataclass(frozen=True)
class Weights:
    """A state dict of another project, with Paddle's names and layouts.

    Attributes:
        backbone: arrays by name, without ``backbone.``.
        head: the head's arrays by name, without ``head.``: class centres ``weight`` (D, C) and its other state.
        source: the project that wrote them, inferred from the names.
        arch: the backbone with its arguments, or None if the names match no known network.
    """

    path: str
    backbone: Mapping[str, np.ndarray]
    head: Mapping[str, np.ndarray]
    format: Format
    source: Source | None
    arch: Spec | None

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return all arrays under the names of a ``FaceRecognizer``."""
        state = {f"backbone.{name}": array for name, array in self.backbone.items()}
        return {**state, **{f"head.{name}": array for name, array in self.head.items()}}


def read_any(path: str | Path) -> Weights:
    """Read .pdparams, a PyTorch file, safetensors, or a PLSC folder with a .pdparam for each parameter.

    Nothing in the file is executed or imported. Half precision becomes float32.

    Raises:
        ValueError: the file is damaged, holds no state dict, or would execute something.
    """
    path = str(path)
    file_format = _format_of(path)
    state, head = _read(path, file_format)
    pytorch = file_format == "torch" or is_pytorch(state)
    backbone, rest = split_head(state, PYTORCH_WRAPPERS if pytorch else ())
    if pytorch:  # AdaFace's class centres are called kernel, and are (D, C) like ours
        backbone = from_pytorch(backbone)
        centres = head if head is not None else rest.get("kernel")
        rest = {} if centres is None else {"weight": centres}
    else:
        backbone = from_fresresnet({name.removeprefix("backbone."): array for name, array in backbone.items()})
    arch = identify(backbone)
    source = _source_of(arch, pytorch, has_wrapper=any(name.startswith("backbone.") for name in state))
    weights = Weights(path, as_floats(backbone), as_floats(rest), file_format, source, arch)
    _check_numbers(path, weights.state_dict())
    return weights


def _read(path: str, file_format: Format) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    if file_format == "torch":
        return _torch_state(path)
    if file_format == "safetensors":
        return read_safetensors(path), None
    return (_folder_state(path) if Path(path).is_dir() else _paddle_state(path)), None


def _format_of(path: str) -> Format:
    if Path(path).is_dir():
        return "paddle"
    with open_regular(path) as file:
        head = file.read(16)
    if head.startswith((b"PK\x03\x04", _LEGACY_TORCH)):
        return "torch"
    return "safetensors" if head[8:9] == b"{" and head[6:8] == b"\0\0" else "paddle"


def _source_of(arch: Spec | None, pytorch: bool, has_wrapper: bool) -> Source | None:
    if arch is None:
        return None
    if re.fullmatch(r"IR\d+", arch.name):
        return "adaface"
    if pytorch:
        return "insightface"
    return "paddleclas" if has_wrapper or arch.name in ("MobileFaceNet", "ResNet50") else "plsc"


def as_floats(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert to contiguous float32; integers are kept, except uint16, as which Paddle saves bfloat16."""
    result = {}
    for name, array in state.items():
        if array.dtype == np.uint16:
            array = from_bfloat16(array)
        result[name] = np.asarray(array, np.float32 if array.dtype.kind == "f" else None, order="C")
    return result


def _check_numbers(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse arrays that no network can use; call it after the cast, which may overflow to infinity."""
    for name, array in arrays.items():
        if array.dtype.kind != "f" and array.size > 1:  # single integers are counters
            raise ValueError(
                f"{path}: '{name}' is an array of {array.dtype}, expected floating-point numbers; quantised?"
            )
        num_bad = 0 if array.dtype.kind != "f" else array.size - int(np.count_nonzero(np.isfinite(array)))
        if num_bad:
            raise ValueError(
                f"{path}: {num_bad:,} of {array.size:,} numbers of '{name}' are NaN or infinite as float32: the "
                "training that wrote them has diverged, or the file is damaged. Take an earlier checkpoint."
            )
        if name.endswith("_variance") and (array < 0).any():
            raise ValueError(f"{path}: '{name}' has negative variances; the file is damaged.")


def _paddle_state(path: str) -> dict[str, np.ndarray]:
    content = safe_pickle.load(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected a dict of arrays (a state dict), found {type(content).__name__}.")
    named = {str(k): v for k, v in content.items() if k != _PADDLE_NAMES}
    arrays = {k: np.asarray(v) for k, v in named.items() if isinstance(v, (np.ndarray, np.number, bool, int, float))}
    not_arrays = [k for k in named if k not in arrays or arrays[k].dtype.kind not in "fiub"]
    if not arrays or not_arrays:
        raise ValueError(f"{path}: expected a dict of arrays, found {not_arrays[:3] or 'an empty one'}.")
    _check_size(path, sum(a.nbytes for a in arrays.values()), _SPACE_FACTOR * Path(path).stat().st_size)
    return arrays


def _folder_state(path: str) -> dict[str, np.ndarray]:
    """Read PLSC's older checkpoints: `name.pdparam` holds one tensor, pickled as (name, array)."""
    state = {}
    for file in sorted(Path(path).glob("*.pdparam")):
        content = safe_pickle.load(file)
        array = content[1] if isinstance(content, tuple) and len(content) == 2 else content
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{file}: expected one array, found {type(array).__name__}.")
        state[file.name[: -len(".pdparam")]] = array
    if not state:
        there = [f", such as {file}" for file in sorted(Path(path).glob("*.pdparams"))[:1]]
        raise ValueError(f"{path} is a folder without *.pdparam files; give a weights file{''.join(there)}.")
    return {name: array for name, array in state.items() if "dist@" not in name}  # a rank's shard of the head


def _torch_state(path: str) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Read the state dict of a PyTorch file and the head (D, C) of insightface's checkpoint, if it has one."""
    with TorchFile(path) as file:
        views = _state_views(file.tree)
        if not views:
            found = type(file.tree).__name__
            if isinstance(file.tree, dict):
                found = f"dict with {', '.join(map(str, list(file.tree)[:6])) or 'nothing'}"
            raise ValueError(
                f"{path}: no tensors found where a state dict should be (it holds a {found}). Save the network's "
                "state_dict() with torch.save; a frozen TorchScript module no longer has one."
            )
        _check_size(path, sum(view.nbytes for view in views.values()), file.max_bytes)
        return {name: view.numpy() for name, view in views.items()}, _insightface_head(path, file.tree)


def _state_views(tree: Any) -> dict[str, TensorView]:
    if not isinstance(tree, dict):
        return {}
    if isinstance(tree, Unread):  # a TorchScript module
        views: dict[str, TensorView] = {}
        _collect_module_views(tree, "", views)
        return views
    if any(isinstance(value, TensorView) for value in tree.values()):
        return {str(name): value for name, value in tree.items() if isinstance(value, TensorView)}
    for key in _NESTED:
        found = _state_views(tree.get(key))
        if found:
            return found
    return {}


def _collect_module_views(module: Mapping[Any, Any], prefix: str, views: dict[str, TensorView]) -> None:
    for name, value in module.items():
        if isinstance(value, TensorView):
            views[f"{prefix}{name}"] = value
        elif isinstance(value, Unread):
            _collect_module_views(value, f"{prefix}{name}.", views)
        if len(views) > _MOST_TENSORS:  # a few modules that hold each other twice expand to millions
            raise ValueError(f"a module expands to more than {_MOST_TENSORS:,} tensors.")


def _check_size(path: str, num_bytes: int, max_bytes: int) -> None:
    """An array under a thousand names is small until it is converted."""
    if num_bytes > max_bytes:
        raise ValueError(f"{path}: its tensors are views of each other and expand to far more than the file holds.")


def _insightface_head(path: str, tree: Any) -> np.ndarray | None:
    """Join the class centres of ``checkpoint_gpu_0.pt`` and its siblings; the first shards may have one more."""
    first = _head_share(tree)
    if first is None:
        return None
    parts = _parts_beside(Path(path))
    shares = [first.numpy()]
    for part in parts[1:]:
        with TorchFile(str(part)) as file:
            share = _head_share(file.tree)
            fits = share is not None and share.shape[1:] == first.shape[1:]
            if share is None or not fits or not 0 <= len(shares[-1]) - share.shape[0] <= 1:
                raise ValueError(f"{part}: its part of the head does not continue {path}'s; one is missing.")
            shares.append(share.numpy())
    centres = np.concatenate(shares)
    text = f"{path}: head: {len(centres)} classes from {', '.join(part.name for part in parts)}"
    if len(parts) == 1:
        logger.warning("%s alone. Training on several GPUs saves a part of the classes in each checkpoint_gpu_N.pt; "
                       "put all of them into one folder.", text)  # fmt: skip
    else:
        logger.info("%s", text)
    return np.ascontiguousarray(centres.T, np.float32)


def _parts_beside(path: Path) -> list[Path]:
    """Return the file and its siblings by rank; it must be the first, and none may be missing between."""
    match = re.fullmatch(r"(.*checkpoint_gpu_)(\d+)(\.pt)", path.name)
    if match is None:
        return [path]
    pattern = re.compile(rf"{re.escape(match[1])}(\d+){re.escape(match[3])}")
    found = {int(m[1]): p for p in path.parent.iterdir() if (m := pattern.fullmatch(p.name))}
    if int(match[2]) != 0:
        raise ValueError(
            f"{path} has rank {match[2]}'s part of the head only. Give {match[1]}0{match[3]}, with all others beside "
            "it."
        )
    missing = sorted(set(range(max(found))) - set(found))
    if missing:
        raise ValueError(
            f"{path}: the parts {', '.join(f'{match[1]}{rank}{match[3]}' for rank in missing[:5])} of the head are not "
            "beside it. Put all of them into one folder."
        )
    return [found[rank] for rank in sorted(found)]


def _head_share(tree: Any) -> TensorView | None:
    part = tree.get(_INSIGHTFACE_HEAD) if isinstance(tree, dict) else None
    weight = part.get("weight") if isinstance(part, dict) else None
    return weight if isinstance(weight, TensorView) and len(weight.shape) == 2 else None
