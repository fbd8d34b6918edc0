"""What the use of a model requires: its network, preprocessing and measured thresholds.

It is stored as ``<weights>.info.json`` beside weights, and in ``inference.yml`` beside an exported model.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ppfacerec.core.image_size import IMAGE_SHAPE
from ppfacerec.core.io.atomic_file import atomic_write
from ppfacerec.core.io.user_files import sha256
from ppfacerec.core.log import logger
from ppfacerec.core.registry import Spec, near_match, thaw
from ppfacerec.metrics import VerificationResult
from ppfacerec.metrics.roc import far_name
from ppfacerec.weights.read import Weights
from ppfacerec.weights.zoo import ZooModel

SUFFIX = ".info.json"
# insightface's five landmarks (eyes, nose, corners of the mouth) for 112 x 112, the template of all aligned faces
ALIGNMENT = "arcface_112x112"


@dataclass(frozen=True)
class ModelInfo:
    """Network and preprocessing of a model; its input is uint8 RGB images.

    Attributes:
        backbone: name and arguments, as under ``Arch.Backbone``.
        embedding_size: length of an embedding.
        colors: channel order of the network's input.
        image_size: height and width, pixels.
        scale, mean, std: (x * scale - mean) / std.
        flip_test: add the embedding of the mirrored image.
        feature_normalize: normalise both embeddings before they are added.
        alignment: the template that faces are aligned to.
        training_data, source, licence: texts, where known.
        thresholds: by set of pairs and FAR ("1e-3"): the cosine above which two faces count as the same, the TAR
            there, and the number of pairs of different people in the measurement.
        classes: digest of the identities of the classes that the weights were trained on (``ClassIdentity``).
        weights_sha256: of the weight file that this info belongs to; None if unknown.
        config: the resolved YAML of the training.
    """

    backbone: Mapping[str, Any]
    embedding_size: int
    colors: Literal["RGB", "BGR"] = "RGB"
    image_size: tuple[int, int] = IMAGE_SHAPE[:2]
    scale: float = 1.0 / 255.0
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    flip_test: bool = True
    feature_normalize: bool = False
    alignment: str = ALIGNMENT
    training_data: str | None = None
    source: str | None = None
    licence: str | None = None
    thresholds: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    classes: str | None = None
    weights_sha256: str | None = None
    config: Mapping[str, Any] | None = None

    @property
    def spec(self) -> Spec:
        """The backbone, for the registry."""
        return Spec(self.backbone["name"], {k: v for k, v in self.backbone.items() if k != "name"}, "backbone")

    def to_tree(self) -> dict[str, Any]:
        """Return plain values for JSON and YAML."""
        return {f.name: thaw(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def to_json(self) -> bytes:
        return (json.dumps(self.to_tree(), indent=2) + "\n").encode()

    def save(self, path: str | Path) -> None:
        """Write it as JSON, atomically."""
        with atomic_write(path) as file:
            file.write(self.to_json())

    def save_beside(self, weights: str | Path) -> Path:
        """Write it beside a weight file, with the checksum of the weights; return the path."""
        path = info_path(weights)
        dataclasses.replace(self, weights_sha256=sha256(weights)).save(path)
        return path

    def mismatches(self, other: ModelInfo) -> list[str]:
        """List how the preprocessing of `other` (from a config) differs from this one (of the weights)."""
        names = ["colors", "image_size", "scale", "mean", "std"]
        if self.thresholds:  # they were measured with these settings
            names += ["flip_test", "feature_normalize"]
        lines = []
        for name in names:
            mine, theirs = getattr(self, name), getattr(other, name)
            if not (np.allclose(mine, theirs) if not isinstance(mine, str) else mine == theirs):
                lines.append(f"{name} is {thaw(mine)} for the weights and {thaw(theirs)} in the config")
        return lines


def from_tree(tree: Any, where: str) -> ModelInfo:
    """Build it from plain values; raise a ValueError if one is missing, unknown or of the wrong type."""
    fields = {f.name: f for f in dataclasses.fields(ModelInfo)}
    if not isinstance(tree, Mapping):
        raise ValueError(f"{where}: expected an object with {', '.join(fields)}, found {type(tree).__name__}.")
    for name in tree:
        if name not in fields:
            raise ValueError(f"{where}: unknown key '{name}'{near_match(str(name), fields)}")
    values: dict[str, Any] = {"backbone": None, "embedding_size": None, **tree}
    for name, (is_right, expected) in _RULES.items():
        if name in values and not is_right(values[name]):
            raise ValueError(f"{where}: {name}: expected {expected}, found {str(values[name])[:80]!r}.")
    for name in ("mean", "std", "image_size"):
        if name in values:
            values[name] = tuple(values[name])
    return ModelInfo(**values)


def read_info(path: str | Path) -> ModelInfo:
    """Read a ``.info.json``; raise a ValueError if it is not JSON or does not match `ModelInfo`."""
    try:
        tree = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON ({error}). Remove it, or write it again.") from error
    return from_tree(tree, str(path))


def info_beside(weights: str | Path) -> ModelInfo | None:
    """Return the info beside a weight file, or None without one for these weights; damage raises a ValueError."""
    path = info_path(weights)
    if not path.is_file():
        return None
    info = read_info(path)
    if info.weights_sha256 is not None and Path(weights).is_file() and info.weights_sha256 != sha256(weights):
        logger.warning(
            "%s belongs to other weights than %s: its thresholds and preprocessing are not used. Evaluating these "
            "weights rewrites it.", path, weights,
        )  # fmt: skip
        return None
    return info


def info_path(weights: str | Path) -> Path:
    """``output/X/best_model.pdparams`` -> ``output/X/best_model.info.json``."""
    path = Path(weights)
    return path.with_name(path.stem + SUFFIX)


def info_of_weights(weights: Weights, embedding_size: int, zoo: ZooModel | None = None) -> ModelInfo:
    """Return the info of weights without an info file, by the conventions of their project.

    All of them expect (x / 255 - 0.5) / 0.5; AdaFace's expect BGR, the others RGB.
    """
    assert weights.arch is not None, "callers check it"
    return ModelInfo(
        backbone={"name": weights.arch.name, **thaw(weights.arch.kwargs)},
        embedding_size=embedding_size,
        colors="BGR" if weights.source == "adaface" else "RGB",
        training_data=zoo.training_data if zoo else None,
        source=zoo.publisher.name if zoo else Path(weights.path).name,
        licence=zoo.publisher.licence if zoo else None,
    )


def known_info(weights: Weights, zoo: ZooModel | None = None) -> ModelInfo | None:
    """Return only reliable info: that beside the weights, or the convention of insightface, AdaFace and the zoo.

    Raises:
        ValueError: the info beside them is damaged.
    """
    beside = info_beside(weights.path)
    if beside is not None:
        return beside
    if weights.arch is None or not (zoo or weights.source in ("insightface", "adaface")):
        return None
    return info_of_weights(weights, weights.arch.kwargs["embedding_size"], zoo)


def thresholds_of(results: Mapping[str, VerificationResult]) -> dict[str, dict[str, dict[str, float]]]:
    """Return ``ModelInfo.thresholds``: the cosine at each false accept rate that a set has enough pairs for.

    Normalised embeddings at a squared distance d have the cosine 1 - d / 2.
    """
    thresholds: dict[str, dict[str, dict[str, float]]] = {}
    for name, result in results.items():
        if result.roc is None:
            continue
        thresholds[name] = {
            far_name(far): {
                "cosine": max(1.0 - point.threshold / 2.0, -1.0),
                "tar": point.tar,
                "num_different": float(result.roc.num_different),
            }
            for far, point in result.points.items()
            if point is not None
        }
    return thresholds


def _is_backbone(value: Any) -> bool:
    """Whether it is a name with arguments whose sizes cannot exhaust the memory before weights are compared."""
    is_named = isinstance(value, Mapping) and isinstance(value.get("name"), str)
    return is_named and all(_is_size(abs(v)) for v in value.values() if type(v) is int and v)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value < 1 << 16


def _are_numbers(values: Any, count: int) -> bool:
    is_list = isinstance(values, (list, tuple)) and len(values) == count
    return is_list and all(type(v) in (int, float) and -1e15 < v < 1e15 for v in values)  # NaN is not between them


def _are_thresholds(value: Any) -> bool:
    if not isinstance(value, Mapping) or not all(isinstance(by_far, Mapping) for by_far in value.values()):
        return False
    points = [point for by_far in value.values() for point in by_far.values()]
    keys = ("cosine", "tar", "num_different")
    return all(isinstance(p, Mapping) and _are_numbers([p.get(k) for k in keys], 3) for p in points)


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "backbone": (_is_backbone, "a mapping with the network's name and sizes below 65,536"),
    "embedding_size": (_is_size, "a positive int"),
    "colors": (lambda v: v in ("RGB", "BGR"), "RGB or BGR"),
    "mean": (lambda v: _are_numbers(v, 3), "3 numbers"),
    "std": (lambda v: _are_numbers(v, 3) and all(v), "3 numbers other than 0"),
    "image_size": (lambda v: _are_numbers(v, 2) and all(map(_is_size, v)), "height and width"),
    "scale": (lambda v: _are_numbers([v], 1), "a number"),
    **dict.fromkeys(("flip_test", "feature_normalize"), (lambda v: isinstance(v, bool), "true or false")),
    **dict.fromkeys(
        ("training_data", "source", "licence", "classes", "weights_sha256"),
        (lambda v: v is None or isinstance(v, str), "a text or null"),
    ),
    "thresholds": (_are_thresholds, "{set: {FAR: {cosine, tar, ...}}}"),
}
