"""From weights to a backbone and what is known of its preprocessing."""

from pathlib import Path

from paddle import nn

from ppfacerec.backbones import BACKBONES
from ppfacerec.config import Config, load_config, weights_file
from ppfacerec.config.components import check_spec
from ppfacerec.config.model_info import info_of_config
from ppfacerec.core.log import logger
from ppfacerec.core.registry import Spec
from ppfacerec.weights.fetch import fetch
from ppfacerec.weights.info import ModelInfo, info_of_weights, info_path, known_info
from ppfacerec.weights.read import Weights, read_any
from ppfacerec.weights.report import match_weights, set_weights
from ppfacerec.weights.zoo import ZOO


def load_backbone(name: str, config: Config | None = None) -> tuple[nn.Layer, ModelInfo]:
    """Return the backbone of weights (a file, a name of the zoo, an https URL) in eval mode, and its info.

    The network is the config's, else that of the info beside the weights, of the ``config.yaml`` there, or the one that
    the names in the file belong to. Images are prepared as the info beside the weights says; where it differs from the
    config, the log says so.

    Raises:
        ValueError: the file is missing or damaged, the network is unknown, or the weights do not fit it.
    """
    weights = read_any(fetch(weights_file(name)))
    known = known_info(weights, ZOO.get(name))
    config = config or (None if known else _config_beside(weights.path))
    spec = config.Arch.Backbone if config else known.spec if known else weights.arch
    if spec is None:
        raise ValueError(
            f"{weights.path}: neither its names nor {info_path(weights.path).name} or config.yaml beside it identify "
            "the network. Give a config with -c."
        )
    backbone = _filled(spec, weights)
    from_config = info_of_config(config, backbone.embedding_size) if config else None
    if known and from_config:
        for line in known.mismatches(from_config):
            logger.warning("%s: %s; the weights' own is used.", weights.path, line)
    return backbone, known or from_config or info_of_weights(weights, backbone.embedding_size)


def _config_beside(path: str) -> Config | None:
    beside = Path(path).parent / "config.yaml"
    if Path(path).suffix != ".pdparams" or not beside.is_file():
        return None
    return load_config(beside, ["Global.pretrained_model=null", "Global.checkpoints=null"], "export", False)[0]


def _filled(spec: Spec, weights: Weights) -> nn.Layer:
    problems = list(check_spec(BACKBONES, spec, {}))
    if problems:
        raise ValueError(
            f"{weights.path}: the network described beside it cannot be built: {' '.join(problems)} Import the module "
            "of a network of your own first, or export the model with -c and use that."
        )
    backbone = BACKBONES.build(spec)
    report = match_weights(backbone, weights.backbone)
    if report.problems():
        raise ValueError(
            f"{weights.path} does not fit {spec.name}: {'; '.join(report.problems())}. {len(report.matched)} tensors "
            f"matched.{report.hint()}"
        )
    set_weights(backbone, weights.backbone)
    backbone.eval()
    return backbone
