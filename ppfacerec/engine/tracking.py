"""Start of a run's log in VisualDL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ppfacerec.config import Config
from ppfacerec.core import distributed
from ppfacerec.core.registry import Spec
from ppfacerec.data.loading.loader import TrainLoader
from ppfacerec.training.monitoring.visualdl_log import VisualDLLog
from ppfacerec.training.monitoring.visuals import Visuals
from ppfacerec.training.state import TrainState


def build_visuals(config: Config, state: TrainState, loader: TrainLoader, sets: Sequence[str]) -> Visuals:
    """Build the visuals of a training that is evaluated on `sets`, and log its hyper-parameters."""
    glob = config.Global
    is_on = glob.use_visualdl and distributed.rank() == 0
    name = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_step_{state.progress.global_step}"  # sorted by time
    log = VisualDLLog(Path(glob.output_dir, "vdl", name) if is_on else None)
    num_steps = glob.epochs * -(-len(loader) // glob.update_freq)
    metrics = [f"eval/{name}" for name in (["average", *sets] if sets else [])]
    log.hyper_parameters(hyper_parameters(config, loader), [*metrics, "train/loss"])
    return Visuals(log, state.recognizer, num_steps, glob.visualdl_faces)


def hyper_parameters(config: Config, loader: TrainLoader) -> dict[str, Any]:
    """Return what distinguishes runs: names and plain arguments of the components, and sizes."""
    assert config.Optimizer is not None, "checked by load_config"
    batch_size = loader.sampler.global_batch_size * config.Global.update_freq
    sizes = {"total_batch": batch_size, "epochs": config.Global.epochs, "seed": config.Global.seed,
             "images": len(loader.dataset), "classes": loader.dataset.num_classes}  # fmt: skip
    return {
        **_of_component("backbone", config.Arch.Backbone),
        **_of_component("head", config.Arch.Head),
        **_of_component("optimizer", config.Optimizer.spec),
        **_of_component("lr", config.Optimizer.lr),
        **sizes,
        "AMP": config.AMP.level if config.AMP else "off",
        "EMA": config.EMA.decay if config.EMA else 0.0,
    }


def _of_component(name: str, spec: Spec) -> Mapping[str, Any]:
    """Name arguments without a dot: VisualDL's page takes it for a path and leaves the column empty."""
    values = {key: str(v) if isinstance(v, bool) else v for key, v in spec.kwargs.items()}
    return {name: spec.name, **{f"{name}_{k}": v for k, v in values.items() if isinstance(v, (int, float, str))}}
