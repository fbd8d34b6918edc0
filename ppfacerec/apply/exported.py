"""What an exported model says of itself, in inference.yml or in an ONNX file's metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple, Optional

from ppfacerec.config.yaml_file import parse_plain_yaml
from ppfacerec.model_info import ModelInfo, from_tree

DESCRIPTION = "inference.yml"


class Exported(NamedTuple):
    """An exported model.

    Attributes:
        onnx: the ONNX file; None for Paddle's inference model.
        takes_pixels: uint8 RGB (N, H, W, 3), or numbers that are prepared outside.
    """

    info: ModelInfo
    onnx: Optional[Path]
    takes_pixels: bool


def read_description(folder: Path) -> Exported:
    """Read the ``inference.yml`` of a folder.

    Raises:
        ValueError: it is damaged, or names a file outside of the folder.
    """
    path = folder / DESCRIPTION
    tree = parse_plain_yaml(path.read_text(encoding="utf-8"), str(path))
    try:
        files, dtype, model = tree["files"], tree["input"]["dtype"], tree["model"]
        onnx = None if "paddle" in files else str(files["onnx"][0])
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{path}: expected what `ppfacerec export` writes (files, input, model): {error}.") from error
    if onnx is not None and (onnx != Path(onnx).name or "\0" in onnx):
        raise ValueError(f"{path}: files: expected a file of this folder, found {onnx[:80]!r}.")
    return Exported(from_tree(model, f"{path}: model"), folder / onnx if onnx is not None else None, dtype == "uint8")


def read_metadata(path: Path, metadata: str) -> ModelInfo:
    """Read what our export writes into an ONNX file.

    Raises:
        ValueError: it is no JSON, or not what `ModelInfo` has.
    """
    try:
        tree = json.loads(metadata)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: its metadata are no JSON ({error}). Export it again.") from error
    return from_tree(tree, f"{path}: metadata")
