"""Load a backbone from weights, with what is known about its preprocessing."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import paddle
from paddle import nn

from ppfacerec.backbones import BACKBONES
from ppfacerec.config import Config, load_config, weights_file
from ppfacerec.config.components import check_spec
from ppfacerec.config.model_info import info_of_config
from ppfacerec.core.device.inference import (
    InferenceRunner,
    Predictor,
    in_turn,
    is_ours,
    native_predictor,
    program_file,
)
from ppfacerec.core.device.paddle_thread import PADDLE_THREAD
from ppfacerec.core.io.user_files import sha256
from ppfacerec.core.log import logger
from ppfacerec.core.registry import Spec
from ppfacerec.weights.fetch import fetch
from ppfacerec.weights.info import ModelInfo, info_of_weights, info_path, known_info
from ppfacerec.weights.read import Weights, read_any
from ppfacerec.weights.report import match_weights, set_weights
from ppfacerec.weights.zoo import ZOO

Network = TypeVar("Network", nn.Layer, InferenceRunner)
Made = TypeVar("Made")


def load_backbone(name: str, config: Config | None = None) -> tuple[nn.Layer, ModelInfo]:
    """Return the backbone of weights (a file, a name of the zoo, an https URL) in eval mode, and its info.

    The network is the config's, else that of the info beside the weights, of the ``config.yaml`` there, or the one
    inferred from the names in the file. The info beside the weights determines the preprocessing; differences from the
    config are logged.

    Raises:
        ValueError: the file is missing or damaged, the network is unknown, or the weights do not fit it.
    """
    return _load(name, config, _filled)


def load_runner(name: str) -> tuple[InferenceRunner, ModelInfo]:
    """Like `load_backbone`, as a runner. On the CPU the last one of our networks is cached."""
    return _load(name, None, lambda spec, weights: in_turn(lambda: _runner(spec, weights)))


def load_predictor(prefix: Path) -> Predictor:
    """Load an exported Paddle model, given its files without suffix; the last one is cached.

    Raises:
        ValueError: also from later calls of the result: after a fork, if the files have changed or are gone.
    """
    prefix = prefix.absolute()  # a daemon changes its working directory after its fork
    key = _digests(prefix)

    def make() -> Any:
        if _digests(prefix) != key:
            raise ValueError(
                f"{prefix.parent}: the exported model was changed or removed after it was loaded. After a fork its "
                "files are read again: keep them as they are, or load the model in the new process."
            )
        return native_predictor(prefix)

    return PADDLE_THREAD.run(lambda: _LAST_PREDICTOR.get(key, lambda: Predictor(make)))


def _digests(prefix: Path) -> list[str | None]:
    files = program_file(prefix), prefix.with_name(f"{prefix.name}.pdiparams")
    return [sha256(path) if path.is_file() else None for path in files]


def _load(name: str, config: Config | None, make: Callable[[Spec, Weights], Network]) -> tuple[Network, ModelInfo]:
    weights = read_any(fetch(weights_file(name)))
    known = known_info(weights, ZOO.get(name))
    config = config or (None if known else _config_beside(weights.path))
    spec = config.Arch.Backbone if config else known.spec if known else weights.arch
    if spec is None:
        raise ValueError(
            f"{weights.path}: neither its tensor names nor {info_path(weights.path).name} or config.yaml beside it "
            "identify the network. Give a config with -c."
        )
    network = make(spec, weights)
    from_config = info_of_config(config, network.embedding_size) if config else None
    if known and from_config:
        for line in known.mismatches(from_config):
            logger.warning("%s: %s; using that of the weights.", weights.path, line)
    return network, known or from_config or info_of_weights(weights, network.embedding_size)


def _config_beside(path: str) -> Config | None:
    beside = Path(path).parent / "config.yaml"
    if Path(path).suffix != ".pdparams" or not beside.is_file():
        return None
    return load_config(beside, ["Global.pretrained_model=null", "Global.checkpoints=null"], "export", False)[0]


def _filled(spec: Spec, weights: Weights) -> nn.Layer:
    problems = list(check_spec(BACKBONES, spec, {}))
    if problems:
        raise ValueError(
            f"{weights.path}: the network described beside it cannot be built: {' '.join(problems)} If it is your own "
            "network, import its module first, or export the model with -c and use that."
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


def _runner(spec: Spec, weights: Weights) -> InferenceRunner:
    def made() -> InferenceRunner:
        return InferenceRunner(_filled(spec, weights))

    # A notebook may redefine a user's network, or what it consists of, under the same name.
    is_known = spec.name in BACKBONES and is_ours(BACKBONES.get(spec.name))
    if not is_known or paddle.get_device() != "cpu":
        return made()
    digest = hashlib.sha256()
    for name, array in weights.backbone.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return _LAST_RUNNER.get([spec.name, repr(spec.kwargs), digest.digest()], made)


class _Last(Generic[Made]):
    """A cache of one object by its key: Paddle never frees 0.6 MiB of each network that is built."""

    def __init__(self) -> None:
        self._held: tuple[object, Made] | None = None

    def get(self, key: object, make: Callable[[], Made]) -> Made:
        if self._held is None or self._held[0] != key:
            self._held = None  # memory may not suffice for two
            self._held = key, make()
        return self._held[1]


_LAST_RUNNER: _Last[InferenceRunner] = _Last()
_LAST_PREDICTOR: _Last[Predictor] = _Last()
