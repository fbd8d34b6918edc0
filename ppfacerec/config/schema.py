"""The sections of a config, one dataclass each; field names are the YAML's keys.

What a section allows, its type and its default stand here and nowhere else. Components (a backbone, a transform) are
``Spec`` fields: their arguments are checked against the constructor's signature in ``check.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Optional, Union

from ppfacerec.registry import Spec, thaw

Specs = tuple  # a list of components: "- Name: {argument: value}" or "- name: Name"


@dataclass(frozen=True)
class GlobalSection:
    """What concerns the run as a whole."""

    output_dir: str = "./output"
    device: str = "auto"
    epochs: int = 25
    seed: int = 0
    checkpoints: Optional[str] = None
    pretrained_model: Optional[str] = None
    load_head: Literal["auto", True, False] = "auto"
    save_interval: int = 1
    save_interval_steps: int = 0
    save_interval_minutes: float = 0
    keep_last: int = 0
    save_in_background: bool = True
    save_head: Union[bool, Literal["shards"]] = True
    eval_during_train: bool = True
    eval_interval: int = 1
    eval_before_train: bool = False
    eval_backend: Literal["auto", "eager", "onednn"] = "auto"
    report: bool = False
    report_faces: bool = True
    save_thresholds: bool = True
    print_batch_step: int = 20
    update_freq: int = 1
    max_bad_steps: Optional[int] = 50
    watchdog_minutes: Optional[float] = 30
    check_replicas_steps: int = 0
    use_sync_bn: bool = False
    bn_sync: Literal["average", "broadcast"] = "average"
    use_visualdl: bool = False
    visualdl_faces: bool = True
    flip_test: bool = True
    feature_normalize: bool = False
    image_shape: tuple[int, ...] = (3, 112, 112)
    save_inference_dir: str = "./inference"
    plugins: tuple[str, ...] = ()
    demo_data: Optional[Mapping[str, Any]] = None


@dataclass(frozen=True)
class AMPSection:
    """Mixed precision; the section's presence switches it on (on GPUs)."""

    scale_loss: float = 65536.0
    use_dynamic_loss_scaling: bool = True
    level: Literal["O1", "O2"] = "O1"
    dtype: Literal["float16", "bfloat16"] = "float16"


@dataclass(frozen=True)
class ArchSection:
    Backbone: Spec
    Head: Spec
    name: Literal["RecModel"] = "RecModel"


@dataclass(frozen=True)
class LossSection:
    Train: Specs


@dataclass(frozen=True)
class OptimizerSection:
    """`spec` is the optimizer with its own arguments, `lr` the schedule."""

    spec: Spec
    lr: Spec
    clip_norm: Optional[float] = None
    one_dim_param_no_weight_decay: bool = False
    no_weight_decay_name: Optional[str] = None


@dataclass(frozen=True)
class LoaderSection:
    num_workers: int = 0


@dataclass(frozen=True)
class TrainLoaderSection(LoaderSection):
    """How training batches are prepared, and what becomes of images that cannot be read."""

    persistent_workers: bool = True
    prefetch_factor: int = 2
    on_bad_image: Literal["error", "skip"] = "error"
    max_bad_images: int = 100


@dataclass(frozen=True)
class DataSection:
    dataset: Spec
    sampler: Spec
    transform_ops: Specs
    loader: LoaderSection = field(default_factory=LoaderSection)


@dataclass(frozen=True)
class TrainDataSection(DataSection):
    loader: TrainLoaderSection = field(default_factory=TrainLoaderSection)


@dataclass(frozen=True)
class DataLoaderSection:
    Train: Optional[TrainDataSection] = None
    Eval: Optional[DataSection] = None


@dataclass(frozen=True)
class MetricSection:
    Eval: Specs


@dataclass(frozen=True)
class EMASection:
    """Exponential moving average of the weights, used for evaluation and best_model."""

    decay: float = 0.9998


@dataclass(frozen=True)
class Config:
    """A whole config, frozen. Build it with ``ppfacerec.config.load_config``."""

    Global: GlobalSection
    Arch: ArchSection
    Optimizer: Optional[OptimizerSection] = None
    Loss: Optional[LossSection] = None
    DataLoader: DataLoaderSection = field(default_factory=DataLoaderSection)
    Metric: Optional[MetricSection] = None
    AMP: Optional[AMPSection] = None
    EMA: Optional[EMASection] = None

    def to_tree(self) -> dict[str, Any]:
        """Nested dicts with every default filled in, in the grammar that ``load_config`` reads."""
        return _to_tree(self)


def _to_tree(value: Any) -> Any:
    if isinstance(value, Spec):
        return {"name": value.name, **thaw(value.kwargs)}
    if isinstance(value, tuple) and any(isinstance(v, Spec) for v in value):
        return [{v.name: thaw(v.kwargs)} for v in value]
    if not dataclasses.is_dataclass(value):
        return thaw(value)
    tree = {f.name: _to_tree(getattr(value, f.name)) for f in dataclasses.fields(value)}
    tree = {k: v for k, v in tree.items() if v is not None}
    if isinstance(value, OptimizerSection):
        tree = {**tree.pop("spec"), **tree}
    if isinstance(value, DataSection):
        tree["dataset"] = {**tree["dataset"], "transform_ops": tree.pop("transform_ops")}
    return tree
