"""Compare the arrays of a file with a network, and copy them into it."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import nn

_SHOWN = 4  # names of each kind in a message


@dataclass(frozen=True)
class WeightsReport:
    """How the arrays of a file match a network; names are the network's."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]  # in the network, not in the file
    unexpected: tuple[str, ...]  # in the file, not in the network
    other_shape: tuple[str, ...]
    hints: Mapping[str, str]  # a missing name -> the unexpected one that it may be

    def problems(self, prefix: str = "") -> list[str]:
        """Return a line for each kind of mismatch among the names that begin with `prefix`."""
        lines = []
        for title in ("missing", "unexpected", "other_shape"):
            names = [n for n in getattr(self, title) if n.startswith(prefix)]
            if names:
                shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
                lines.append(f"{len(names)} {title.replace('_', ' ')}: {shown}")
        return lines

    def hint(self) -> str:
        """Return a sentence about the first near match, or ""."""
        return next((f" For '{name}' it has no array. Did you mean '{near}'?" for name, near in self.hints.items()), "")

    def table(self) -> str:
        """List every mismatch on a line, with near matches beside missing names."""
        lines = [f"{len(self.matched)} matched"]
        for title in ("missing", "unexpected", "other_shape"):
            names: Sequence[str] = getattr(self, title)
            lines.append(f"{len(names)} {title.replace('_', ' ')}")
            lines += [f"  {n}" + (f"   (near: {self.hints[n]})" if n in self.hints else "") for n in names]
        return "\n".join(lines)


def match_weights(layer: nn.Layer, weights: Mapping[str, np.ndarray]) -> WeightsReport:
    """Compare names and shapes."""
    return match_shapes({name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()}, weights)


def match_shapes(own: Mapping[str, tuple[int, ...]], weights: Mapping[str, Any]) -> WeightsReport:
    """Compare names and shapes; `own` are those of the network, as saved in files."""
    both = [name for name in own if name in weights]
    other_shape = [name for name in both if own[name] != weights[name].shape]
    missing = tuple(name for name in own if name not in weights)
    unexpected = tuple(name for name in weights if name not in own)
    return WeightsReport(
        matched=tuple(name for name in both if name not in other_shape),
        missing=missing,
        unexpected=unexpected,
        other_shape=tuple(f"{n} {list(weights[n].shape)} for {list(own[n])}" for n in other_shape),
        hints=_near_matches({n: own[n] for n in missing}, {n: weights[n].shape for n in unexpected}),
    )


def set_weights(layer: nn.Layer, weights: Mapping[str, np.ndarray]) -> None:
    """Copy the arrays with the layer's names into it, in its dtype."""
    for name, tensor in layer.state_dict().items():
        if name in weights:
            tensor.set_value(paddle.to_tensor(weights[name]).astype(tensor.dtype))


def _near_matches(missing: Mapping[str, tuple[int, ...]], unexpected: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Map the first missing names to the unexpected ones of nearest spelling, preferably of the same shape."""
    hints = {}
    for name in list(missing)[:_SHOWN]:
        same_shape = [n for n, shape in unexpected.items() if shape == missing[name]]
        found = difflib.get_close_matches(name, same_shape or list(unexpected), n=1, cutoff=0.6)
        if found:
            hints[name] = found[0]
    return hints
