"""Convert state dicts of other projects to Paddle's parameter names and layouts."""

import re
from collections.abc import Collection, Iterable, Mapping

import numpy as np

PYTORCH_WRAPPERS = ("module", "_orig_mod", "model", "backbone", "net")  # DataParallel, torch.compile, Lightning, ...
HEAD = "head"

_LEAVES = {"running_mean": "_mean", "running_var": "_variance"}
_FRESRESNET = "conv._conv.weight"  # PLSC's older backbone


def is_pytorch(names: Iterable[str]) -> bool:
    """Whether the names are PyTorch's (running_mean) rather than Paddle's (_mean)."""
    return any(name.endswith(("running_mean", "num_batches_tracked")) for name in names)


def split_head(
    state: Mapping[str, np.ndarray], wrappers: Collection[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the backbone's arrays without wrappers (``module.``, ``backbone.``), and the head's without ``head.``.

    All names except the head's may begin with one of `wrappers`, or several nested ones.
    """
    rest: dict[str, np.ndarray] = dict(state)
    head: dict[str, np.ndarray] = {}
    for _ in range(1 + len(wrappers)):
        head.update({k[len(HEAD) + 1 :]: v for k, v in rest.items() if k.startswith(f"{HEAD}.")})
        rest = {k: v for k, v in rest.items() if not k.startswith(f"{HEAD}.")}
        first = {name.partition(".")[0] for name in rest}
        if len(first) != 1 or not first <= set(wrappers) or not all("." in name for name in rest):
            break
        rest = {name.partition(".")[2]: array for name, array in rest.items()}
    return rest, head


def from_pytorch(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert a state dict of PyTorch layers to that of the corresponding Paddle layers.

    Linear weights are transposed, batch-norm statistics and PReLU slopes renamed, and the batch counter is dropped.
    """
    result: dict[str, np.ndarray] = {}
    for name, array in state.items():
        stem, _, leaf = name.rpartition(".")
        is_norm = f"{stem}.running_mean" in state
        if leaf == "num_batches_tracked":
            continue
        if leaf == "weight" and array.ndim == 2:
            array = array.T
        elif leaf == "weight" and array.ndim == 1 and not is_norm:
            leaf = "_weight"  # PReLU
        leaf = _LEAVES.get(leaf, leaf)
        result[f"{stem}.{leaf}" if stem else leaf] = array
    return result


def from_fresresnet(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the state dict of PLSC's FresResNet under IResNet's names; return other state dicts unchanged.

    Its blocks are called res2a, res2b, ...: stage + 1 and a letter (after z: {, |, }, ~).
    """
    if _FRESRESNET not in state:
        return dict(state)
    outside = {
        "conv._conv": "conv1", "conv._batch_norm": "bn1", "prelu": "prelu", "fc._batch_norm_1": "bn2", "fc.fc": "fc",
        "fc._batch_norm_2": "features",
    }  # fmt: skip
    inside = {
        "_batch_norm": "bn1", "conv0._conv": "conv1", "conv0._batch_norm": "bn2", "prelu": "prelu",
        "conv1._conv": "conv2", "conv1._batch_norm": "bn3", "short._conv": "downsample.0",
        "short._batch_norm": "downsample.1",
    }  # fmt: skip
    result = {}
    for name, array in state.items():
        stem, _, leaf = name.rpartition(".")
        block = re.fullmatch(r"res([2-5])(.)\.(.+)", stem)
        if block and block[3] in inside:
            result[f"layer{int(block[1]) - 1}.{ord(block[2]) - ord('a')}.{inside[block[3]]}.{leaf}"] = array
        elif not name.startswith("block_list."):  # these repeat the same blocks
            result[f"{outside.get(stem, stem)}.{leaf}"] = array
    return result
