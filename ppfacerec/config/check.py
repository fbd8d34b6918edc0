"""What the schema cannot see: components against their signatures, sizes that must agree, paths that must exist."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Optional

from ppfacerec.config.components import check_spec
from ppfacerec.config.paths import is_one_of_many, missing, missing_sets
from ppfacerec.config.schema import Config, DataLoaderSection, DataSection
from ppfacerec.environment import DEVICE
from ppfacerec.ranges import range_problems
from ppfacerec.registry import Registry, Spec, thaw
from ppfacerec.weights_io.fetch import problem_of, weights_file

Mode = Literal["train", "eval", "export"]


def import_plugins(modules: Collection[str]) -> list[str]:
    """Import the modules of ``Global.plugins`` so that they can register their components; return the problems."""
    problems = []
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            problems.append(f"Global.plugins: cannot import '{module}' ({error}); is it installed or on PYTHONPATH?")
    return problems


def check_config(config: Config, mode: Mode, found: Collection[str] = ()) -> list[str]:
    """Return every problem of a bound config; nothing is built and no data set is read.

    Args:
        found: what the schema found already; a rule is passed over where what it reads is broken.
    """
    if config.DataLoader is None:  # reported by the schema
        config = dataclasses.replace(config, DataLoader=DataLoaderSection())
    problems = list(_check_components(config, mode))
    for reads, rule in _RULES:
        if not any(problem.startswith(reads) for problem in [*found, *problems]):
            problems += rule(config, mode)
    return problems


def _check_components(config: Config, mode: Mode) -> Iterator[str]:
    from ppfacerec.backbones import BACKBONES
    from ppfacerec.heads import HEADS
    from ppfacerec.losses import LOSSES
    from ppfacerec.metrics import METRICS
    from ppfacerec.optim import OPTIMIZERS, SCHEDULES

    if config.Arch and config.Arch.Backbone:
        yield from check_spec(BACKBONES, config.Arch.Backbone)
    if config.Arch and config.Arch.Head:
        yield from check_spec(HEADS, config.Arch.Head, optional=("class_num",))  # else taken from the data
    for spec in filter(None, config.Loss.Train if config.Loss else ()):
        yield from check_spec(LOSSES, spec, extra=("weight",))
    if config.Optimizer and config.Optimizer.spec:
        yield from check_spec(OPTIMIZERS, config.Optimizer.spec, given=("groups", "clip_norm"))
    if config.Optimizer and config.Optimizer.lr:
        given = ("epochs", "steps_per_epoch")
        yield from check_spec(SCHEDULES, config.Optimizer.lr, given=given, extra=("base_batch_size",))
    for spec in filter(None, config.Metric.Eval if config.Metric else ()):
        yield from check_spec(METRICS, spec)
    yield from _check_data_components(config)
    yield from _missing_sections(config, mode)


def _check_data_components(config: Config) -> Iterator[str]:
    from ppfacerec.data import EVAL_DATASETS, SAMPLERS, TRAIN_DATASETS, TRANSFORMS

    for section, datasets in ((config.DataLoader.Train, TRAIN_DATASETS), (config.DataLoader.Eval, EVAL_DATASETS)):
        if not section:
            continue
        for spec in _with_nested(section.dataset) if section.dataset else ():
            given = ("class_num",) if spec is not section.dataset else ()
            yield from check_spec(datasets, spec, given)
        if section.sampler:
            yield from check_spec(SAMPLERS, section.sampler, given=("num_samples", "rank", "world_size", "seed"))
        for spec in filter(None, section.transform_ops):
            yield from check_spec(TRANSFORMS, spec)


def _with_nested(dataset: Spec) -> Iterator[Spec]:
    """A data set and, of a ConcatDataset, those in it."""
    from ppfacerec.data.train_datasets import nested_specs

    yield dataset
    nested = dataset.kwargs.get("datasets")
    if dataset.name == "ConcatDataset" and isinstance(nested, tuple) and all(isinstance(n, Mapping) for n in nested):
        for spec in nested_specs(nested, f"{dataset.path}.datasets"):
            yield from _with_nested(spec)


def _missing_sections(config: Config, mode: Mode) -> Iterator[str]:
    if mode == "export":
        return
    evaluates = mode == "eval" or config.Global is None or config.Global.eval_during_train is True
    needed = [] if mode == "eval" else ["Loss", "Optimizer", "DataLoader.Train"]
    for path in [*needed, *(["DataLoader.Eval", "Metric"] if evaluates else [])]:
        section: object = config
        for key in path.split("."):
            section = getattr(section, key)
        if section is None:
            hint = " or set Global.eval_during_train: False" if mode == "train" and path in _EVAL_SECTIONS else ""
            yield f"{path}: missing; add the section{hint}."


_EVAL_SECTIONS = ("DataLoader.Eval", "Metric")


def _argument(registry: Registry, spec: Spec, name: str) -> Any:
    """The argument as given, or the constructor's default; None where there is no such parameter."""
    parameter = registry.signature(spec.name).parameters.get(name)
    if name in spec.kwargs or parameter is None:
        return spec.kwargs.get(name)
    return None if parameter.default is inspect.Parameter.empty else parameter.default


def _check_embedding_size(config: Config, mode: Mode) -> Iterator[str]:
    from ppfacerec.backbones import BACKBONES

    head, backbone = config.Arch.Head, config.Arch.Backbone
    names = [n for n in ("num_features", "class_num") if n in BACKBONES.signature(backbone.name).parameters]
    if not names:  # a plugin's backbone; the recognizer compares its embedding_size when it is built
        return
    argument, size = names[0], _argument(BACKBONES, backbone, names[0])
    if size != head.kwargs["embedding_size"]:
        yield (
            f"Arch.Head.embedding_size: {head.kwargs['embedding_size']}, but Arch.Backbone.{argument} of "
            f"{backbone.name} is {size}; make them equal."
        )


def _check_global(config: Config, mode: Mode) -> Iterator[str]:
    if not DEVICE.fullmatch(config.Global.device):
        yield f"Global.device: expected auto, cpu, gpu, or gpu:1 for one of several, found {config.Global.device!r}."
    if tuple(config.Global.image_shape) != (3, 112, 112):
        yield f"Global.image_shape: the backbones take [3, 112, 112], found {list(config.Global.image_shape)}."
    if config.Global.demo_data is not None:
        from ppfacerec.data.demo_faces import make_demo_data

        demo = Registry("demo data", make_demo_data=make_demo_data)
        yield from check_spec(demo, Spec("make_demo_data", config.Global.demo_data, "Global.demo_data"))
    if config.Global.pretrained_model and not is_one_of_many():
        problem = problem_of(weights_file(config.Global.pretrained_model))
        if problem:
            yield f"Global.pretrained_model: {problem}"
    prefix = config.Global.checkpoints
    is_looked_for = mode == "train" and not is_one_of_many()
    if is_looked_for and prefix not in (None, "auto") and not Path(weights_file(prefix)).is_file():
        yield (
            f"Global.checkpoints: {weights_file(prefix)} does not exist; 'auto' goes on from the newest complete "
            "checkpoint in output_dir, if there is one."
        )


def _check_ranges(config: Config, mode: Mode) -> Iterator[str]:
    """Every number of the sections and of the components that are not built for the check."""
    loaders = [("DataLoader.Train", config.DataLoader.Train), ("DataLoader.Eval", config.DataLoader.Eval)]
    sections: list[tuple[str, Any]] = [
        ("Global", config.Global),
        ("AMP", config.AMP),
        ("EMA", config.EMA),
        ("Optimizer", config.Optimizer),
    ]
    sections += [(f"{path}.loader", section.loader) for path, section in loaders if section]
    for path, section in sections:
        values = {f.name: getattr(section, f.name) for f in dataclasses.fields(section)} if section else {}
        yield from (f"{path}.{name}: {problem}." for name, problem in range_problems(values).items())
    specs = list(config.Loss.Train) if config.Loss else []
    specs += [config.Optimizer.spec, config.Optimizer.lr] if config.Optimizer else []
    specs += [section.sampler for _, section in loaders if section]
    for spec in filter(None, specs):
        for name, problem in range_problems(spec.kwargs, spec.name).items():
            yield f"{spec.path}.{name}: {problem}."


def _refused(registry: Registry, spec: Spec) -> Iterator[str]:
    """Build a component that costs nothing to build, for what its constructor says of the values."""
    try:
        registry.build(spec)
    except ValueError as error:
        yield f"{spec.path}.{error}"


def _check_head(config: Config, mode: Mode) -> Iterator[str]:
    from ppfacerec.heads import HeadOptions

    head, names = config.Arch.Head, [field.name for field in dataclasses.fields(HeadOptions)]
    options = {name: value for name, value in head.kwargs.items() if name in names}
    yield from _refused(Registry("head options", HeadOptions), Spec("HeadOptions", options, head.path))


def _check_schedule(config: Config, mode: Mode) -> Iterator[str]:
    from ppfacerec.optim import SCHEDULES

    if config.Optimizer is None or mode != "train":
        return
    lr = config.Optimizer.lr
    kwargs = {k: v for k, v in lr.kwargs.items() if k != "base_batch_size"}
    kwargs |= {"epochs": config.Global.epochs, "steps_per_epoch": 1}
    yield from _refused(SCHEDULES, Spec(lr.name, kwargs, lr.path))


def _check_train_data(config: Config, mode: Mode) -> Iterator[str]:
    section = config.DataLoader.Train
    if section is None or mode != "train":
        return
    yield from _check_images(section, "DataLoader.Train")
    for dataset in _with_nested(section.dataset):
        for key, kind in (("image_root", "folder"), ("root", "folder"), ("cls_label_path", "file")):
            if key in dataset.kwargs:
                yield from missing(dataset.kwargs[key], f"{dataset.path}.{key}", kind, _demo_root(config))
        if dataset.name == "RecordIODataset" and Path(dataset.kwargs["root"]).is_dir():
            record = Path(dataset.kwargs["root"]) / f"{dataset.kwargs.get('prefix', 'train')}.rec"
            yield from missing(str(record), f"{dataset.path}.root", "file", None)


def _check_eval_data(config: Config, mode: Mode) -> Iterator[str]:
    from ppfacerec.data import EVAL_DATASETS

    section = config.DataLoader.Eval
    if section and mode != "export" and (mode == "eval" or config.Global.eval_during_train):
        yield from _check_images(section, "DataLoader.Eval")
        targets = _argument(EVAL_DATASETS, section.dataset, "val_targets")
        yield from missing_sets(section.dataset, targets, _demo_root(config))
        for spec in section.transform_ops:
            if spec.name.startswith("Rand"):
                yield f"{spec.path}: evaluation takes no random transform; Global.flip_test adds the mirror image."


def _check_images(section: DataSection, path: str) -> Iterator[str]:
    from ppfacerec.data import TRANSFORMS

    names = [spec.name for spec in section.transform_ops]
    for needed in ("DecodeImage", "NormalizeImage"):
        if needed not in names:
            yield f"{path}.dataset.transform_ops: {needed} is missing; without it the network sees other numbers."
    for spec in section.transform_ops:
        yield from _refused(TRANSFORMS, spec)
    sizes = [spec for spec in section.transform_ops if spec.name in ("ResizeImage", "CropImage", "RandCropImage")]
    if sizes and sizes[-1].kwargs.get("size") not in (112, (112, 112)):
        size = thaw(sizes[-1].kwargs.get("size"))
        yield f"{sizes[-1].path}.size: the backbones take 112 x 112, found {size}."


# (the parts of the config that a rule reads, the rule)
_RULES: tuple[tuple[tuple[str, ...], Callable[[Config, Mode], Iterator[str]]], ...] = (
    ((), _check_ranges),
    (("Arch",), _check_embedding_size),
    (("Arch",), _check_head),
    (("Global",), _check_global),
    (("Optimizer", "Global"), _check_schedule),
    (("DataLoader.Train", "Global"), _check_train_data),
    (("DataLoader.Eval", "Global"), _check_eval_data),
)


def _demo_root(config: Config) -> Optional[str]:
    return config.Global.demo_data["root"] if config.Global.demo_data else None
