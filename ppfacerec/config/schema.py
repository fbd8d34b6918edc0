"""The sections of a config, one dataclass each; field names are the YAML's keys.

What a section allows, its type and its default stand here and nowhere else. Components (a backbone, a transform) are
``Spec`` fields: their arguments are checked against the constructor's signature in ``check.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Optional, Union, get_args, get_origin, get_type_hints

from ppfacerec.config.types import describe, freeze, matches, thaw
from ppfacerec.registry import Spec, near_match

Specs = tuple  # a list of components: "- Name: {argument: value}" or "- name: Name"


@dataclass(frozen=True)
class GlobalSection:
    """What concerns the run as a whole."""

    output_dir: str = "./output"
    device: Literal["auto", "cpu", "gpu"] = "auto"
    epochs: int = 25
    seed: int = 0
    checkpoints: Optional[str] = None
    pretrained_model: Optional[str] = None
    load_head: Literal["auto", True, False] = "auto"
    save_interval: int = 1
    save_head: Union[bool, Literal["shards"]] = True
    eval_during_train: bool = True
    eval_interval: int = 1
    eval_before_train: bool = False
    eval_backend: Literal["auto", "eager", "onednn"] = "auto"
    report: bool = False
    print_batch_step: int = 20
    update_freq: int = 1
    use_sync_bn: bool = False
    bn_sync: Literal["average", "broadcast"] = "average"
    use_visualdl: bool = False
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


# PaddleClas keys that mean nothing here: (values that are harmless, why the key is not needed).
PADDLECLAS_KEYS: dict[str, tuple[tuple[Any, ...], str]] = {
    "Global.eval_mode": (("face_recognition", None), "evaluation is always face verification"),
    "Global.retrieval_feature_from": (("backbone", None), "the embedding is always the backbone's output"),
    "Global.re_ranking": ((False, None), "re-ranking is for retrieval, not for verification"),
    "Global.use_dali": ((False, None), "images are decoded by OpenCV"),
    "Global.to_static": ((False, None), "training is eager"),
    "Global.use_amp": ((True, None), "the AMP section itself switches AMP on"),
    "Arch.infer_output_key": (("features", None), "inference always gives the embedding"),
    "Arch.infer_add_softmax": ((False, None), "inference always gives the embedding"),
    "Arch.Neck": ((None,), "the embedding comes straight from the backbone"),
    "Loss.Eval": (None, "evaluation computes no loss"),  # type: ignore[dict-item]
    "Metric.Train": (None, "the training log shows the loss"),  # type: ignore[dict-item]
    "DataLoader.Train.loader.use_shared_memory": (None, "batches come through memory that needs no /dev/shm"),  # type: ignore[dict-item]
    "DataLoader.Eval.loader.use_shared_memory": (None, "evaluation has no worker processes"),  # type: ignore[dict-item]
    "Infer": (None, "inference reads its images from the command line"),  # type: ignore[dict-item]
}


class Binder:
    """Turns a plain tree into sections and collects every problem on the way.

    Attributes:
        problems: one line a problem, with its dotted path.
        notes: PaddleClas keys that were accepted and have no effect, with the reason.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []

    def config(self, tree: Mapping[str, Any]) -> Config:
        """Bind the whole tree; where there are `problems`, parts may be None or of a wrong type."""
        config: Config = self.section(Config, tree, "")
        return config

    def section(self, cls: Any, tree: Any, path: str) -> Any:
        """Bind a mapping to a section; what is missing is reported and None, so that the rest can be checked too."""
        if not isinstance(tree, Mapping):
            self.problems.append(f"{path}: expected a mapping, found {tree!r}.")
            return None
        tree = self._without_paddleclas_keys(tree, path)
        if cls is OptimizerSection:
            tree = self._split_optimizer(tree)
        if issubclass(cls, DataSection):
            tree = self._lift_transforms(tree, path)
        hints = get_type_hints(cls)
        fields = {f.name: f for f in dataclasses.fields(cls)}
        self._report_unknown(tree, [n for n in fields if (cls, n) != (OptimizerSection, "spec")], fields, path)
        values = {}
        for name, spec in fields.items():
            required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
            if name in tree and not (tree[name] is None and not required):
                values[name] = self.value(hints[name], tree[name], _join(path, _PLACES.get(name, name)))
            elif required:
                self.problems.append(f"{_join(path, name)}: missing; {_EXPECTED[name]}.")
                values[name] = None
        return cls(**values)

    def value(self, hint: Any, value: Any, path: str) -> Any:
        args = [a for a in get_args(hint) if a is not type(None)]
        if get_origin(hint) is Union and len(args) == 1 and (args[0] is Spec or dataclasses.is_dataclass(args[0])):
            hint = args[0]
        if hint is Spec:
            return self.spec(value, path)
        if hint is Specs:
            return self.specs(value, path)
        if dataclasses.is_dataclass(hint):
            return self.section(hint, value, path)
        if not matches(value, hint):
            self.problems.append(f"{path}: expected {describe(hint)}, found {_show(value)}.")
        return freeze(value)

    def spec(self, value: Any, path: str) -> Optional[Spec]:
        """Bind ``{name: X, argument: ...}``."""
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            self.problems.append(f"{path}: expected a mapping with a 'name' and its arguments, found {_show(value)}.")
            return None
        return Spec(value["name"], freeze({k: v for k, v in value.items() if k != "name"}), path)

    def specs(self, value: Any, path: str) -> tuple[Optional[Spec], ...]:
        """Bind a list of ``- Name: {argument: ...}``."""
        if not isinstance(value, list) or not value:
            self.problems.append(f"{path}: expected a list of '- Name: {{arguments}}', found {_show(value)}.")
            return ()
        return tuple(self._listed(item, f"{path}.{i}") for i, item in enumerate(value))

    def _listed(self, item: Any, path: str) -> Optional[Spec]:
        if isinstance(item, str):
            return Spec(item, freeze({}), f"{path}.{item}")
        if isinstance(item, Mapping) and len(item) == 1:
            (name, kwargs), *_ = item.items()
            if kwargs is None or isinstance(kwargs, Mapping):
                return Spec(str(name), freeze(kwargs or {}), f"{path}.{name}")
        self.problems.append(f"{path}: expected '- Name: {{arguments}}' with one name, found {_show(item)}.")
        return None

    def _without_paddleclas_keys(self, tree: Mapping[str, Any], path: str) -> dict[str, Any]:
        kept = {}
        for key, value in tree.items():
            dotted = _join(path, str(key))
            if dotted not in PADDLECLAS_KEYS:
                kept[key] = value
                continue
            harmless, reason = PADDLECLAS_KEYS[dotted]
            if harmless is None or value in harmless:
                self.notes.append(f"{dotted} has no effect: {reason}.")
            else:
                self.problems.append(f"{dotted}: expected {harmless[0]!r} ({reason}), found {_show(value)}.")
        return kept

    def _split_optimizer(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """The optimizer's own arguments stand beside `lr` and ours in PaddleClas's grammar; give them a `spec`."""
        ours = ("lr", "clip_norm", "one_dim_param_no_weight_decay")
        own = {k: v for k, v in tree.items() if k not in ours}
        return {"spec": own, **{k: v for k, v in tree.items() if k in ours}}

    def _lift_transforms(self, tree: Mapping[str, Any], path: str) -> dict[str, Any]:
        """`transform_ops` stands inside `dataset` in PaddleClas's grammar; here it is a part of its own."""
        dataset = tree.get("dataset")
        if not isinstance(dataset, Mapping):
            return dict(tree)
        if "transform_ops" not in dataset:
            self.problems.append(f"{path}.dataset.transform_ops: missing; at least DecodeImage and NormalizeImage.")
        rest = {k: v for k, v in dataset.items() if k != "transform_ops"}
        return {**tree, "dataset": rest, "transform_ops": dataset.get("transform_ops") or ["DecodeImage"]}

    def _report_unknown(self, tree: Mapping[str, Any], known: list[str], fields: Mapping[str, Any], path: str) -> None:
        for key in tree:
            if key not in fields:
                self.problems.append(
                    f"{_join(path, str(key))}: unknown key{near_match(str(key), known)} Known here: {', '.join(known)}."
                )


_EXPECTED = {
    "Global": "expected the section with epochs, output_dir, ...",
    "Arch": "expected the section with Backbone and Head",
    "Backbone": "expected {name: MobileFaceNet, ...}",
    "Head": "expected {name: ArcMargin, embedding_size: ..., class_num: ...}",
    "lr": "expected {name: Cosine, learning_rate: ...}",
    "dataset": "expected {name: ..., transform_ops: [...]}",
    "sampler": "expected {name: DistributedBatchSampler, batch_size: ...}",
    "Train": "expected a list such as [CELoss: {weight: 1.0}]",
    "Eval": "expected a list such as [FaceAccOnFiveDatasets: {}]",
}


# Fields that do not stand in the YAML under their own name.
_PLACES = {"spec": "", "transform_ops": "dataset.transform_ops"}


def _join(path: str, key: str) -> str:
    return ".".join(part for part in (path, key) if part)


def _show(value: Any) -> str:
    text = f"{thaw(value)!r}"
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


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
