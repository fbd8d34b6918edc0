"""Facts that must not change when a training is resumed: from config, network and data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ppfacerec.backbones import BACKBONES
from ppfacerec.config import Config
from ppfacerec.core.registry import thaw
from ppfacerec.data.datasets.class_identity import ClassIdentity
from ppfacerec.data.loading.loader import TrainLoader
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.training.checkpoints.run_facts import Pace, RunFacts

# Arguments of a backbone that change its training, not the network.
_MAY_CHANGE = ("dropout", "recompute")


def facts_of_run(config: Config, recognizer: FaceRecognizer, loader: TrainLoader, people: ClassIdentity) -> RunFacts:
    """Return the facts of a training that is about to start."""
    pace = Pace(loader.sampler.global_batch_size, config.Global.update_freq, len(loader))
    return RunFacts(config.to_tree(), dict(_identity(config, recognizer, loader)), pace, people)


def _identity(config: Config, recognizer: FaceRecognizer, loader: TrainLoader) -> Iterator[tuple[str, Any]]:
    arch, head = config.Arch, recognizer.traits
    yield "Arch.Backbone.name", arch.Backbone.name
    for name, parameter in BACKBONES.signature(arch.Backbone.name).parameters.items():
        if name not in _MAY_CHANGE:
            yield f"Arch.Backbone.{name}", thaw(arch.Backbone.kwargs.get(name, parameter.default))
    yield "Arch.Head.name", arch.Head.name
    yield "Arch.Head.embedding_size", recognizer.backbone.embedding_size
    yield "Arch.Head.class_num", head.class_num or loader.dataset.num_classes
    yield "Arch.Head.num_sub_centers", head.num_sub_centers
    assert config.Optimizer is not None, "checked by load_config"
    yield "Optimizer.name", config.Optimizer.spec.name
    yield "DataLoader.Train.dataset (images)", len(loader.dataset)
