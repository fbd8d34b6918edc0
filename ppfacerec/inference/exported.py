"""Read the description of an exported model from the file beside it or from an ONNX file's metadata."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ppfacerec.config.yaml_file import parse_plain_yaml
from ppfacerec.core.io.user_files import sha256
from ppfacerec.core.log import logger
from ppfacerec.weights.info import ModelInfo, from_tree

DESCRIPTIONS = {"paddle": "inference.yml", "onnx": "inference.onnx.yml"}  # in order of precedence
METADATA, METADATA_DIGEST = "ppfacerec", "ppfacerec_sha256"  # keys in ONNX: `ModelInfo` as JSON; SHA-256 of the file
NO_DIGEST = "0" * 64  # placeholder while the digest is computed


class Exported(NamedTuple):
    """An exported model, ONNX or Paddle; its input is uint8 RGB (N, H, W, 3), or preprocessed outside."""

    info: ModelInfo
    onnx: Path | None
    takes_pixels: bool


def find_description(path: Path) -> Path | None:
    """Return the description at a path, which is the file itself or its folder."""
    if path.name in DESCRIPTIONS.values():
        return path
    return next((path / name for name in DESCRIPTIONS.values() if (path / name).is_file()), None)


def read_description(path: Path) -> Exported:
    """Read the description of an exported model.

    Raises:
        ValueError: it is damaged, names a file outside its folder, or does not match the files beside it.
    """
    folder = path.parent
    tree = parse_plain_yaml(path.read_text(encoding="utf-8"), str(path))
    try:
        files, dtype, model = tree["files"], tree["input"]["dtype"], tree["model"]
        onnx = None if "paddle" in files else str(files["onnx"][0])
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{path}: expected what `ppfacerec export` writes (files, input, model): {error}.") from error
    if onnx is not None and (onnx != Path(onnx).name or "\0" in onnx):
        raise ValueError(f"{path}: files: expected a file in this folder, found {onnx[:80]!r}.")
    digests = tree.get("sha256", {})
    for name, digest in digests.items() if isinstance(digests, Mapping) else ():
        name = Path(str(name)).name
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            raise ValueError(f"{path} describes another {name[:80]} than the one beside it. Export the model again.")
    return Exported(from_tree(model, f"{path}: model"), folder / onnx if onnx is not None else None, dtype == "uint8")


def read_metadata(path: Path, metadata: Mapping[str, str]) -> ModelInfo:
    """Read our ONNX metadata, without thresholds if another program changed the file; raise a ValueError if invalid."""
    try:
        tree = json.loads(metadata[METADATA])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: its metadata is not JSON ({error}). Export it again.") from error
    info, digest = from_tree(tree, f"{path}: metadata"), metadata.get(METADATA_DIGEST, NO_DIGEST)
    content = path.read_bytes().replace(digest.encode(), NO_DIGEST.encode())
    if info.thresholds and hashlib.sha256(content).hexdigest() != digest:
        logger.warning("%s was changed after its export (quantised?): its earlier thresholds are not used.", path)
        info = replace(info, thresholds={})
    return info
