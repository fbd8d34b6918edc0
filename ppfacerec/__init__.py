"""Face-recognition training and evaluation for PaddlePaddle.

Importing this package starts nothing and does not import paddle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from ppfacerec.core.version import __version__ as __version__

if TYPE_CHECKING:
    from ppfacerec.config import Config
    from ppfacerec.engine import Engine
    from ppfacerec.inference.face_model import FaceModel
    from ppfacerec.metrics.evaluation import Evaluation
    from ppfacerec.training.callbacks import Callback as Callback


def load(name: Any, device: Any = "auto") -> FaceModel:
    """Load a model that embeds and compares aligned faces; see ``ppfacerec.inference.face_model.load``."""
    _prepare()
    from ppfacerec.inference import face_model

    return face_model.load(name, device)


def train(
    config: Config | Mapping[str, Any] | str | PathLike[str],
    overrides: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
    tune_cpu: bool = False,
) -> dict[int, Evaluation]:
    """Train as ``ppfacerec train`` does, and return the evaluations by epoch (0: before training).

    Args:
        config: result of ``load_config``, a mapping of its sections, a YAML file, or the name of a shipped config.
        overrides: strings ``"a.b.0.c=value"``, as for ``-o``.
        callbacks: receive training events, in addition to those of ``Global.callbacks``.
        tune_cpu: configure MKL and malloc of this process for speed on the CPU (``ppfacerec.core.device.cpu_tuning``).
    Raises:
        ConfigError: lists everything that is wrong with the config.
    """
    from ppfacerec.engine import TrainingStopped

    try:
        return _engine(config, overrides, "train", tune_cpu).train(callbacks)
    except TrainingStopped as stopped:  # requested by a callback or a signal; `latest` is saved
        return stopped.evaluations


def evaluate(
    config: Config | Mapping[str, Any] | str | PathLike[str], overrides: Sequence[str] = (), tune_cpu: bool = False
) -> Evaluation:
    """Evaluate the weights of ``Global.pretrained_model`` as ``ppfacerec eval`` does; arguments as for `train`."""
    return _engine(config, overrides, "eval", tune_cpu).evaluate()


def __getattr__(name: str) -> Any:
    if name != "Callback":
        raise AttributeError(f"module 'ppfacerec' has no attribute '{name}'")
    from ppfacerec.training.callbacks import Callback

    return Callback


def _prepare() -> None:
    from ppfacerec.core import environment, log

    log.setup_library_logging()
    environment.check_environment()


def _engine(config: Any, overrides: Sequence[str], mode: Any, tune_cpu: bool) -> Engine:
    _prepare()
    if tune_cpu:
        from ppfacerec.core.device import cpu_tuning

        cpu_tuning.tune_cpu()
    from ppfacerec.config import load_config
    from ppfacerec.engine import Engine

    return Engine(*load_config(config, overrides, mode))
