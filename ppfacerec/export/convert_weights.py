"""Conversion of other projects' weights, with a report and an optional parity check."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from ppfacerec.backbones import BACKBONES
from ppfacerec.core.io.atomic_file import atomic_write
from ppfacerec.core.log import logger
from ppfacerec.core.registry import Spec
from ppfacerec.inference.parity import TOLERANCE, difference_to
from ppfacerec.weights.fetch import fetch, weights_file
from ppfacerec.weights.formats.safetensors_file import write_safetensors
from ppfacerec.weights.info import ModelInfo, info_beside, info_of_weights
from ppfacerec.weights.read import Weights, read_any
from ppfacerec.weights.report import match_weights, set_weights
from ppfacerec.weights.zoo import ZOO

SourceName = Literal["auto", "paddleclas", "insightface", "adaface", "plsc"]


def convert_weights(
    source: str,
    target: str | Path,
    source_name: SourceName = "auto",
    reference: str | None = None,
    allow_mismatch: bool = False,
) -> ModelInfo:
    """Convert a file, a model of the zoo or a URL to .pdparams or .safetensors, with an info file beside it.

    Args:
        source: what ``Global.pretrained_model`` takes.
        target: the file to write; its suffix chooses the format.
        source_name: the project that the weights must be from; "auto" detects it.
        reference: an ONNX file or a folder with Paddle's inference model of the same network; both run one
            batch, and a difference above 1e-4 is an error.
        allow_mismatch: write what matched, and initial values for the rest.

    Raises:
        ValueError: the network is unknown, the weights are of another project, do not fit, or fail the parity check.
    """
    target = Path(target)
    if target.suffix not in _WRITERS:
        raise ValueError(f"{target}: expected a name that ends in {' or '.join(_WRITERS)}.")
    weights = read_any(fetch(weights_file(source)))
    arch = _checked_arch(weights, source_name)
    net = BACKBONES.build(arch)
    net.eval()
    report = match_weights(net, weights.backbone)
    logger.info("%s: %s (%s)\n%s", weights.path, arch.name, weights.source, report.table())
    if report.problems() and not allow_mismatch:
        raise ValueError(
            f"{weights.path} does not fit {arch.name}: {'; '.join(report.problems())}.{report.hint()} Nothing was "
            "written; --allow-mismatch would write what matched, and initial values for the rest."
        )
    set_weights(net, {name: weights.backbone[name] for name in report.matched})
    if reference:
        difference = difference_to(net, reference)
        logger.info("Verified against %s: largest difference %.1e of the largest number", reference, difference)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{weights.path}: our network differs from the source ({reference}) by {difference:.1e} of the largest "
                f"number, above {TOLERANCE:.0e}. Nothing was written."
            )
    info = info_beside(weights.path) or info_of_weights(weights, net.embedding_size, ZOO.get(source))
    state = {f"backbone.{name}": tensor.numpy() for name, tensor in net.state_dict().items()}
    _WRITERS[target.suffix](target, {**state, **{f"head.{name}": array for name, array in weights.head.items()}})
    logger.info("Written: %s and %s (%s images)", target, info.save_beside(target), info.colors)
    return info


def _checked_arch(weights: Weights, source_name: SourceName) -> Spec:
    if weights.arch is None:
        raise ValueError(
            f"{weights.path}: its tensor names match no supported network ({', '.join(list(weights.backbone)[:3])}, "
            f"...). Supported: {', '.join(BACKBONES.names())}."
        )
    if source_name not in ("auto", weights.source):
        raise ValueError(
            f"{weights.path} is {weights.source}'s {weights.arch.name} by its tensor names, not {source_name}'s. Leave "
            "out --from, or give another file."
        )
    return weights.arch


def write_pdparams(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file that ``paddle.load`` and PaddleClas read, completely or not at all."""
    with atomic_write(path) as file:
        pickle.dump(dict(arrays), file, protocol=4)


_WRITERS = {".pdparams": write_pdparams, ".safetensors": write_safetensors}
