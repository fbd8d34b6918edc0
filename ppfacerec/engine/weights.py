"""Weights from a file into a network, with a report of what fitted; nothing is loaded where something does not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np
import paddle

from ppfacerec import safe_pickle
from ppfacerec.config import weights_file
from ppfacerec.engine.head_shards import ShardedArray, ShardReader, shard_files
from ppfacerec.engine.saved_state import from_saved, saved_shapes
from ppfacerec.log import logger
from ppfacerec.recognizer import HEAD_WEIGHT, FaceRecognizer
from ppfacerec.registry import near_match

# What paddle.save adds to a state dict.
_PADDLE_EXTRAS = ("StructuredToParameterName@@",)


@dataclass(frozen=True)
class WeightsReport:
    """How the arrays of a file fit a network; names as the network has them."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]  # in the network, not in the file
    unexpected: tuple[str, ...]  # in the file, not in the network
    other_shape: tuple[str, ...]

    def problems(self, prefix: str) -> list[str]:
        """One line for each kind of misfit among the names that begin with `prefix`."""
        lines = []
        for title in ("missing", "unexpected", "other_shape"):
            names = [n for n in getattr(self, title) if n.startswith(prefix)]
            if names:
                shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
                lines.append(f"{len(names)} {title.replace('_', ' ')}: {shown}")
        return lines


def read_weights(path: Union[str, Path]) -> dict[str, Any]:
    """Read a .pdparams file through the allow-list; a backbone's own keys get the prefix ``backbone.``.

    A head that its checkpoint has in files of its own is there as a ``ShardedArray``.

    Raises:
        ValueError: the file is no dict of arrays, is damaged, or would import something else when unpickled.
    """
    path = weights_file(str(path))
    content = safe_pickle.load(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected a dict of arrays (a state dict), found {type(content).__name__}.")
    arrays = {str(k): np.asarray(v) for k, v in content.items() if k not in _PADDLE_EXTRAS}
    not_arrays = [k for k, v in arrays.items() if v.dtype.kind not in "fiub"]
    if not arrays or not_arrays:
        raise ValueError(f"{path}: expected a dict of arrays, found {not_arrays[:3] or 'an empty one'}.")
    if any(name.startswith(("backbone.", "head.")) for name in arrays):
        return {**arrays, **_sharded_head(Path(path))}
    return {f"backbone.{name}": array for name, array in arrays.items()}


def _sharded_head(path: Path) -> dict[str, ShardedArray]:
    prefix = path.with_suffix("")
    manifest_path = prefix.with_name(f"{prefix.name}.manifest.json")
    if not manifest_path.is_file():
        return {}
    shards = shard_files(prefix, json.loads(manifest_path.read_text(encoding="utf-8")))
    return {HEAD_WEIGHT: ShardedArray(ShardReader(shards), "weight")} if shards else {}


def match_weights(recognizer: FaceRecognizer, weights: Mapping[str, Any]) -> WeightsReport:
    """Compare names and shapes."""
    own = saved_shapes(recognizer)
    both = [name for name in own if name in weights]
    other_shape = tuple(name for name in both if own[name] != weights[name].shape)
    return WeightsReport(
        matched=tuple(name for name in both if name not in other_shape),
        missing=tuple(name for name in own if name not in weights),
        unexpected=tuple(name for name in weights if name not in own),
        other_shape=tuple(f"{n} {list(weights[n].shape)} for {list(own[n])}" for n in other_shape),
    )


def set_weights(recognizer: FaceRecognizer, weights: Mapping[str, Any]) -> None:
    """Copy the arrays that have the network's names into it, in the network's own dtype."""
    for name, tensor in recognizer.state_dict().items():
        if name in weights:
            array = from_saved(recognizer, name, weights[name])
            tensor.set_value(paddle.to_tensor(array).astype(tensor.dtype))


def load_pretrained(recognizer: FaceRecognizer, prefix: str) -> WeightsReport:
    """Load pretrained weights: the whole backbone or nothing; a head only where it fits.

    Args:
        recognizer: with or without a head.
        prefix: the .pdparams file, with or without its suffix.

    Raises:
        ValueError: the weights are another backbone's.
    """
    path, weights = weights_file(prefix), read_weights(prefix)
    report = match_weights(recognizer, weights)
    problems = report.problems("backbone.")
    if problems:
        raise ValueError(
            f"{path} does not fit the backbone of the config: {'; '.join(problems)}. "
            f"{len(report.matched)} tensors matched. Is Arch.Backbone the network of these weights?"
            + (_hint(report) if report.missing and report.unexpected else "")
        )
    head_problems = report.problems("head.")
    if recognizer.head is not None and head_problems:
        logger.warning("%s: the head is not loaded and starts anew (%s).", path, "; ".join(head_problems))
    set_weights(recognizer, {name: weights[name] for name in report.matched})
    logger.info("Loaded %d tensors from %s.", len(report.matched), path)
    return report


def _hint(report: WeightsReport) -> str:
    return f" For '{report.missing[0]}' it has no array{near_match(report.missing[0], report.unexpected)}"
