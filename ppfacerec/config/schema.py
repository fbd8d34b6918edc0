"""Sections of a config, one dataclass each; field names are the keys of the YAML.

This is the only definition of a section: the type and default of a key are the field's, its range and a line of help
are in the metadata. Components (a backbone, a transform) are ``Spec`` fields whose metadata names their registry.
docs/config.md is generated from it (``python -m ppfacerec.config.docs``).
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Optional, Union

from ppfacerec.core.image_size import IMAGE_SIZE
from ppfacerec.core.ranges import AT_LEAST_1, BETWEEN_0_AND_1, NOT_NEGATIVE, OFF_OR_MORE, POSITIVE, SEED, Range, or_null
from ppfacerec.core.registry import Spec, thaw

Specs = tuple  # a list of components: "- Name: {argument: value}" or "- Name"


def key(default: Any, help_text: str, values: Optional[Range] = None) -> Any:
    """Define a key of a section; `values` is the range of a number."""
    return field(default=default, metadata={"help": help_text, "range": values})


def section(help_text: str, **default: Any) -> Any:
    return field(**default, metadata={"help": help_text})


def component(registry: str, help_text: str, **rules: Any) -> Any:
    """Define a field for a component, or for a list of components.

    Args:
        registry: its path in the package, such as "heads.HEADS"; imported when a config is checked.
        help_text: description with an example.
        **rules: `given`, `optional`: parameters that the engine passes, always or if the YAML has none; `extra`: keys
            that the engine reads itself, with type, default and help; `is_light`: the check calls the constructor.
    """
    default = {"default": rules.pop("default")} if "default" in rules else {}
    return field(**default, metadata={"registry": registry, "help": help_text, **rules})


@dataclass(frozen=True)
class GlobalSection:
    """Settings of the run as a whole."""

    output_dir: str = key("./output", "folder for all output")
    device: str = key("auto", "auto: a GPU if Paddle sees one; cpu; gpu; gpu:1: one of several (single process)")
    epochs: int = key(25, "passes over the training set", AT_LEAST_1)
    seed: int = key(0, "seeds initial weights, sample order, augmentation, dropout", SEED)
    checkpoints: Optional[str] = key(None, "output/X/latest: resume from it; auto: from the newest, if any")
    pretrained_model: Optional[str] = key(None, "weights to start from or to evaluate: a file, model name or URL")
    load_head: Literal["auto", True, False] = key("auto", "load pretrained_model's head: if it fits, must fit, never")
    save_interval: int = key(1, "epochs between `epoch_N` checkpoints (`latest` is saved after each)", AT_LEAST_1)
    save_interval_steps: int = key(0, "optimizer steps between `step_N` checkpoints; 0: none", OFF_OR_MORE)
    save_interval_minutes: float = key(0, "minutes between saves of `latest` within an epoch", OFF_OR_MORE)
    keep_last: int = key(0, "newest `step_N` and `epoch_N` checkpoints to keep; 0: all", OFF_OR_MORE)
    save_in_background: bool = key(True, "a thread writes checkpoints while training continues")
    save_head: Union[bool, Literal["shards"]] = key(True, "False: not in best_model; shards: one file per process")
    eval_during_train: bool = key(True, "evaluate during the training and after its last epoch")
    eval_interval: int = key(1, "epochs between evaluations", AT_LEAST_1)
    eval_before_train: bool = key(False, "also evaluate the initial weights, as epoch 0")
    eval_backend: Literal["auto", "eager", "onednn"] = key("auto", "onednn is for CPUs, about 4 times faster")
    report: bool = key(False, "write the last evaluation to `output_dir/report/index.html` (docs/evaluation.md)")
    report_faces: bool = key(True, "False (`eval --no-faces`): the report has no face images")
    save_thresholds: bool = key(True, "`ppfacerec eval` keeps measured thresholds in `.info.json` beside the weights")
    print_batch_step: int = key(20, "iterations between log lines", AT_LEAST_1)
    update_freq: int = key(1, "batches accumulated per step; same gradient as one large batch", AT_LEAST_1)
    max_bad_steps: Optional[int] = key(50, "AMP: this many skipped steps in a row end the run", or_null(AT_LEAST_1))
    watchdog_minutes: Optional[float] = key(30, "minutes without a finished batch that end the run", or_null(POSITIVE))
    check_replicas_steps: int = key(0, "steps between comparisons of all replicas; 0: only at the start", OFF_OR_MORE)
    use_sync_bn: bool = key(False, "several GPUs: compute batch-norm statistics over all of them in every step")
    bn_sync: Literal["average", "broadcast"] = key("average", "how processes share batch-norm statistics at each step")
    use_visualdl: bool = key(False, "write curves and pictures to `output_dir/vdl` (docs/visualdl.md)")
    visualdl_faces: bool = key(True, "False leaves out the pictures of faces")
    flip_test: bool = key(True, "evaluation adds the mirrored image's embedding")
    feature_normalize: bool = key(False, "normalise both embeddings before they are added")
    image_shape: tuple[int, ...] = key((3, IMAGE_SIZE, IMAGE_SIZE), "the only shape that the backbones take")
    save_inference_dir: str = key("./inference", "where `ppfacerec export` writes (docs/deployment.md)")
    plugins: tuple[str, ...] = key((), "modules to import first; they may register components")
    callbacks: Specs = component(
        "training.callbacks.CALLBACKS", "registered by `plugins`; they receive the events of the training", default=()
    )
    demo_data: Optional[Mapping[str, Any]] = key(None, "make synthetic faces; keys: `root`, arguments of `demo-data`")


@dataclass(frozen=True)
class AMPSection:
    """Mixed precision on GPUs; enabled by the presence of this section."""

    scale_loss: float = key(65536.0, "initial loss scale", POSITIVE)
    use_dynamic_loss_scaling: bool = key(True, "adapt the loss scale to the gradients")
    level: Literal["O1", "O2"] = key("O1", "O2 keeps the weights in half precision")
    dtype: Literal["float16", "bfloat16"] = key("float16", "type of half-precision computations")


@dataclass(frozen=True)
class ArchSection:
    """The backbone and the head."""

    Backbone: Spec = component(
        "backbones.BACKBONES", "{name: MobileFaceNet, ...}; `num_features` and `class_num` are read as `embedding_size`"
    )
    Head: Spec = component(
        "heads.HEADS", "{name: ArcMargin, embedding_size: ..., class_num: ...}", optional=("class_num",)
    )
    name: Literal["RecModel"] = key("RecModel", "the only value")


@dataclass(frozen=True)
class LossSection:
    """The training objective: a weighted sum of losses."""

    Train: Specs = component(
        "losses.LOSSES",
        "a list such as [CELoss: {weight: 1.0}]",
        extra={"weight": (float, 1.0, "factor in the sum")},
    )


@dataclass(frozen=True)
class OptimizerSection:
    """The optimizer, whose own arguments are keys of this section too, and its learning-rate schedule."""

    spec: Spec = component("optim.OPTIMIZERS", "{name: AdamW, ...}", given=("groups", "clip_norm"))
    lr: Spec = component(
        "optim.SCHEDULES",
        "{name: Cosine, learning_rate: ...}",
        given=("epochs", "steps_per_epoch"),
        extra={"base_batch_size": (Optional[int], None, "total batch size of the rates; they are scaled to yours")},
        is_light=True,
    )
    clip_norm: Optional[float] = key(None, "clip the gradients' global norm to this", or_null(POSITIVE))
    one_dim_param_no_weight_decay: bool = key(False, "no weight decay for biases, batch norms, PReLU slopes")
    no_weight_decay_name: Optional[str] = key(None, "no weight decay for parameters with one of these in the name")


@dataclass(frozen=True)
class LoaderSection:
    """Preparation of batches."""

    num_workers: int = key(0, "processes that prepare training batches; 0: none", NOT_NEGATIVE)


@dataclass(frozen=True)
class TrainLoaderSection(LoaderSection):
    """Preparation of training batches, and handling of unreadable images."""

    persistent_workers: bool = key(True, "keep worker processes between epochs")
    prefetch_factor: int = key(2, "batches that each worker prepares ahead", AT_LEAST_1)
    on_bad_image: Literal["error", "skip"] = key("error", "skip: list it in `bad_images.txt` and use the next good one")
    max_bad_images: int = key(100, "more skipped images than this end the run", NOT_NEGATIVE)


@dataclass(frozen=True)
class DataSection:
    """A verification data set and its preprocessing."""

    dataset: Spec = component("data.EVAL_DATASETS", "{name: ..., transform_ops: [...]}")
    sampler: Spec = component(
        "data.SAMPLERS",
        "{name: DistributedBatchSampler, batch_size: ...}",
        given=("num_samples", "rank", "world_size", "seed"),
    )
    transform_ops: Specs = component("data.TRANSFORMS", "[DecodeImage: {...}, ...], inside `dataset`", is_light=True)
    loader: LoaderSection = section("how batches are prepared", default_factory=LoaderSection)


@dataclass(frozen=True)
class TrainDataSection(DataSection):
    """A training set and its preprocessing."""

    dataset: Spec = component("data.TRAIN_DATASETS", "{name: ..., transform_ops: [...]}")
    loader: TrainLoaderSection = section("how batches are prepared", default_factory=TrainLoaderSection)


@dataclass(frozen=True)
class DataLoaderSection:
    """Training and evaluation data."""

    Train: Optional[TrainDataSection] = section("training data", default=None)
    Eval: Optional[DataSection] = section("evaluation data", default=None)


@dataclass(frozen=True)
class MetricSection:
    """Metrics of the evaluation."""

    Eval: Specs = component("metrics.METRICS", "a list such as [FaceAccOnFiveDatasets: {}]")


@dataclass(frozen=True)
class EMASection:
    """Exponential moving average of the weights for evaluation and best_model; enabled by this section's presence."""

    decay: float = key(0.9998, "fraction of the average kept in a step", BETWEEN_0_AND_1)


@dataclass(frozen=True)
class Config:
    """A whole config, frozen. Build it with ``ppfacerec.config.load_config``."""

    Global: GlobalSection = section("the section with epochs, output_dir, ...")
    Arch: ArchSection = section("the section with Backbone and Head")
    Optimizer: Optional[OptimizerSection] = section("optimizer and learning rate", default=None)
    Loss: Optional[LossSection] = section("the training objective", default=None)
    DataLoader: DataLoaderSection = section("the data", default_factory=DataLoaderSection)
    Metric: Optional[MetricSection] = section("metrics of the evaluation", default=None)
    AMP: Optional[AMPSection] = section("mixed precision", default=None)
    EMA: Optional[EMASection] = section("average of the weights", default=None)

    def to_tree(self) -> dict[str, Any]:
        """Return nested dicts with all defaults filled in, in the grammar that ``load_config`` reads."""
        return _to_tree(self)


def sections_of(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every section that is present with its dotted path, the config itself first."""
    yield path, value
    for one in dataclasses.fields(value):
        inner = getattr(value, one.name)
        if dataclasses.is_dataclass(inner) and not isinstance(inner, Spec):
            yield from sections_of(inner, f"{path}.{one.name}".lstrip("."))


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
