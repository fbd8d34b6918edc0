"""``ppfacerec export``: a trained backbone as Paddle's inference model or ONNX."""

import argparse
from collections.abc import Sequence
from pathlib import Path

_KEYS = ("Global.pretrained_model", "Global.save_inference_dir", "Global.device")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", default="paddle", choices=["paddle", "onnx", "both"], help="what to write")
    parser.add_argument(
        "--onnx-for-cpu", action="store_true",
        help="PReLU as convolutions: the same numbers, about twice as fast in onnxruntime on a CPU, slower on a GPU",
    )  # fmt: skip
    parser.add_argument(
        "--uint8-input", action="store_true", help="the graph takes (N, 112, 112, 3) uint8 RGB and prepares it itself"
    )


def run(parsed: argparse.Namespace) -> int:
    from ppfacerec.config import ConfigError, load_config
    from ppfacerec.core.device.runtime import choose_device
    from ppfacerec.core.log import logger
    from ppfacerec.export import export_model
    from ppfacerec.inference.loading import load_backbone

    config = load_config(parsed.config, parsed.override, "export")[0] if parsed.config else None
    if config:
        weights, folder = config.Global.pretrained_model, config.Global.save_inference_dir
    else:
        weights, folder = _without_config(parsed.override)
    if not weights:
        raise ConfigError(["give weights with -o Global.pretrained_model=output/X/best_model."], "the command")
    choose_device("cpu")  # the parity is measured there
    backbone, info = load_backbone(weights, config)
    for path in export_model(backbone, info, Path(folder), parsed.format, parsed.uint8_input, parsed.onnx_for_cpu):
        logger.info("Written: %s (%.1f MB)", path, path.stat().st_size / 1e6)
    return 0


def _without_config(overrides: Sequence[str]) -> tuple[str, str]:
    """The weights and the folder; the network is what the file beside the weights, or their names, say."""
    from ppfacerec.config import ConfigError
    from ppfacerec.config.schema import GlobalSection
    from ppfacerec.config.yaml_file import parse_yaml

    values: dict[str, str] = {}
    for override in overrides:
        key, _, text = override.partition("=")
        if key.strip() not in _KEYS:
            raise ConfigError([f"{key}: without a config (-c), -o takes {', '.join(_KEYS)}."], "the command")
        values[key.strip()] = str(parse_yaml(text, f"-o {key}")[0])
    return values.get(_KEYS[0], ""), values.get(_KEYS[1], GlobalSection.save_inference_dir)
