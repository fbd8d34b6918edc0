"""``ppfacerec export``, ``convert-weights`` and ``convert-checkpoint``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ppfacerec.config import ConfigError, load_config
from ppfacerec.config.schema import GlobalSection
from ppfacerec.config.yaml_file import parse_yaml
from ppfacerec.core.device.runtime import choose_device
from ppfacerec.core.log import logger
from ppfacerec.export import export_model
from ppfacerec.export.convert_weights import convert_weights
from ppfacerec.inference.loading import load_backbone
from ppfacerec.training.checkpoints.paddleclas_writer import write_paddleclas

_KEYS = ("Global.pretrained_model", "Global.save_inference_dir", "Global.device")


def export(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, arguments.override, "export")[0] if arguments.config else None
    if config:
        weights, folder = config.Global.pretrained_model, config.Global.save_inference_dir
    else:
        weights, folder = _without_config(arguments.override)
    if not weights:
        raise ConfigError(["give weights with -o Global.pretrained_model=output/X/best_model."], "the command")
    choose_device("cpu")  # parity is measured on the CPU
    backbone, info = load_backbone(weights, config)
    files = export_model(
        backbone, info, Path(folder), arguments.format,
        uint8_input=arguments.uint8_input, onnx_for_cpu=arguments.onnx_for_cpu,
    )  # fmt: skip
    for path in files:
        logger.info("Written: %s (%.1f MB)", path, path.stat().st_size / 1e6)
    return 0


def _without_config(overrides: Sequence[str]) -> tuple[str, str]:
    """Return weights and output folder; the info file beside the weights, or their names, give the network."""
    values: dict[str, str] = {}
    for override in overrides:
        key, _, text = override.partition("=")
        if key.strip() not in _KEYS:
            raise ConfigError([f"{key}: without a config (-c), -o takes {', '.join(_KEYS)}."], "the command")
        values[key.strip()] = str(parse_yaml(text, f"-o {key}")[0])
    return values.get(_KEYS[0], ""), values.get(_KEYS[1], GlobalSection.save_inference_dir)


def convert(arguments: argparse.Namespace) -> int:
    convert_weights(
        arguments.source, arguments.target, arguments.source_name, arguments.reference, arguments.allow_mismatch,
    )  # fmt: skip
    return 0


def convert_checkpoint(arguments: argparse.Namespace) -> int:
    names = (name.removesuffix(".pdparams") for name in (arguments.source, arguments.target, arguments.like))
    for path in write_paddleclas(*map(Path, names)):
        logger.info("Written: %s", path)
    return 0
