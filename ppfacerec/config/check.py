"""Checks beyond the schema: component signatures, sizes that must agree, paths that must exist.

No component is named here. A component may declare its own checks: ``paths`` maps an argument to the "folder" or "file"
that must exist; ``check(arguments)`` yields "argument: problem." for arguments that fit the signature;
``parts(arguments, path)`` returns nested components. A transform may also declare ``is_needed`` or ``is_random``; its
argument `size` is the size of images after it.
"""

import dataclasses
import importlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Optional

from ppfacerec.config.components import REQUIRED, arguments_of, check_spec, keys_of, registry_of
from ppfacerec.config.schema import ArchSection, Config, DataLoaderSection, sections_of
from ppfacerec.core.environment import DEVICE
from ppfacerec.core.image_size import IMAGE_SIZE
from ppfacerec.core.ranges import range_problem
from ppfacerec.core.registry import Registry, Spec, thaw
from ppfacerec.weights.fetch import problem_of, weights_file

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


def with_our_names(config: Config) -> Config:
    """Return the config with our names of the backbone's arguments (``num_features`` -> ``embedding_size``)."""
    if config.Arch is None or config.Arch.Backbone is None:  # reported by the schema
        return config
    arch = dataclasses.replace(config.Arch, Backbone=_backbones().canonical(config.Arch.Backbone))
    return dataclasses.replace(config, Arch=arch)


def _backbones() -> Registry:
    return registry_of({f.name: f for f in dataclasses.fields(ArchSection)}["Backbone"].metadata)


def check_config(config: Config, mode: Mode, found: Collection[str] = ()) -> list[str]:
    """Return every problem of a bound config, without building anything expensive or reading a data set.

    A rule is skipped if its input has one of the problems in `found` (those of the schema).
    """
    if config.DataLoader is None:  # reported by the schema
        config = dataclasses.replace(config, DataLoader=DataLoaderSection())
    signatures = (check_spec(registry_of(rules), spec, rules) for spec, rules in _components(config))
    problems = [*_check_keys(config), *chain.from_iterable(signatures), *_missing_sections(config, mode)]
    for reads, rule in _RULES:
        if not any(problem.startswith(reads) for problem in [*found, *problems]):
            problems += rule(config, mode)
    for spec, rules in _components(config):
        is_sound = not any(problem.startswith((spec.path, "Global")) for problem in [*found, *problems])
        if is_sound and _is_used(spec, config, mode):
            problems += _check_values(spec, rules, config)
    return problems


def _components(config: Config) -> Iterator[tuple[Spec, Mapping[str, Any]]]:
    """Yield every component with the metadata of its field, nested components after their parents."""
    for _, section in sections_of(config):
        for one in dataclasses.fields(section):
            value = getattr(section, one.name)
            for spec in value if isinstance(value, tuple) else [value]:
                if isinstance(spec, Spec):
                    yield from _with_parts(spec, one.metadata)


def _with_parts(spec: Spec, rules: Mapping[str, Any]) -> Iterator[tuple[Spec, Mapping[str, Any]]]:
    yield spec, rules
    registry = registry_of(rules)
    parts = getattr(registry.get(spec.name), "parts", None) if spec.name in registry else None
    for part in parts(spec.kwargs, spec.path) if parts else ():
        yield from _with_parts(part, {**rules, "given": ("class_num",)})


def _check_keys(config: Config) -> Iterator[str]:
    """Check the numeric ranges of the sections' keys."""
    for path, section in sections_of(config):
        for name, key in keys_of(type(section)).items():
            problem = range_problem(getattr(section, name), key.range)
            if problem:
                yield f"{path}.{name}: {problem}."


def _is_used(spec: Spec, config: Config, mode: Mode) -> bool:
    if spec.path.startswith("DataLoader.Eval"):
        return mode == "eval" or (mode == "train" and config.Global.eval_during_train)
    return mode == "train" or not spec.path.startswith(("DataLoader", "Optimizer", "Loss"))


def _check_values(spec: Spec, rules: Mapping[str, Any], config: Config) -> Iterator[str]:
    """Run the checks that a component declares, on arguments that fit its signature."""
    registry = registry_of(rules)
    component = registry.get(spec.name)
    known = arguments_of(registry, spec.name, rules)
    arguments = {n: a.default for n, a in known.items() if a.default is not REQUIRED} | dict(spec.kwargs)
    demo = config.Global.demo_data["root"] if config.Global.demo_data else None
    declared = getattr(component, "paths", {}).items()
    paths = {name: (arguments[name], kind) for name, kind in declared if arguments.get(name) is not None}
    for name, (path, kind) in paths.items():
        exists = Path(path).is_dir() if kind == "folder" else Path(path).is_file()
        if Path(path).exists() and not exists:  # such as a named pipe
            yield f"{spec.path}.{name}: {path} is not a {'folder' if kind == 'folder' else 'regular file'}."
        elif not exists and not _is_made_later(path, demo):
            yield f"{spec.path}.{name}: the {kind} {path} does not exist (relative paths start at {Path.cwd()})."
    if not any(_is_made_later(path, demo) for path, _ in paths.values()):
        check = getattr(component, "check", None)
        yield from (f"{spec.path}.{problem}" for problem in (check(arguments) if check else ()))
    if rules.get("is_light"):
        own = {name: value for name, value in spec.kwargs.items() if name not in rules.get("extra", ())}
        try:
            registry.build(dataclasses.replace(spec, kwargs=own), epochs=config.Global.epochs, steps_per_epoch=1)
        except ValueError as error:
            yield f"{spec.path}.{error}"


def _is_made_later(path: str, folder: Optional[str]) -> bool:
    """Return whether a path is in the folder of the demo data, which is made when the run starts."""
    return folder is not None and Path(folder).resolve() in (Path(path).resolve(), *Path(path).resolve().parents)


def _is_one_of_many() -> bool:
    """Return whether missing files may be on another process's disk; the ranks check those together later."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1


def _missing_sections(config: Config, mode: Mode) -> Iterator[str]:
    if mode == "export":
        return
    evaluates = mode == "eval" or config.Global is None or config.Global.eval_during_train is True
    training = [] if mode == "eval" else ["Loss", "Optimizer", "DataLoader.Train"]
    evaluation = ["DataLoader.Eval", "Metric"] if evaluates else []
    for path in [*training, *evaluation]:
        section: object = config
        for key in path.split("."):
            section = getattr(section, key)
        if section is None:
            hint = " or set Global.eval_during_train: False" if mode == "train" and path in evaluation else ""
            yield f"{path}: missing; add the section{hint}."


def _check_embedding_size(config: Config, mode: Mode) -> Iterator[str]:
    head, backbone = config.Arch.Head, config.Arch.Backbone
    argument = arguments_of(_backbones(), backbone.name, {}).get("embedding_size")
    if argument is None:  # a plugin's backbone: the recognizer compares embedding_size when it is built
        return
    size = backbone.kwargs.get("embedding_size", argument.default)
    if size != head.kwargs["embedding_size"]:
        yield (
            f"Arch.Head.embedding_size: {head.kwargs['embedding_size']}, but Arch.Backbone.embedding_size of "
            f"{backbone.name} is {size}; make them equal."
        )


def _check_global(config: Config, mode: Mode) -> Iterator[str]:
    if not DEVICE.fullmatch(config.Global.device):
        yield f"Global.device: expected auto, cpu, gpu, or gpu:1 for one of several, found {config.Global.device!r}."
    if tuple(config.Global.image_shape) != (3, IMAGE_SIZE, IMAGE_SIZE):
        yield f"Global.image_shape: the backbones take [3, 112, 112], found {list(config.Global.image_shape)}."
    if config.Global.demo_data is not None:
        from ppfacerec.demo.demo_faces import make_demo_data

        demo = Registry("demo data", make_demo_data=make_demo_data)
        yield from check_spec(demo, Spec("make_demo_data", config.Global.demo_data, "Global.demo_data"), {})
    if config.Global.pretrained_model and not _is_one_of_many():
        problem = problem_of(weights_file(config.Global.pretrained_model))
        if problem:
            yield f"Global.pretrained_model: {problem}"
    prefix = config.Global.checkpoints
    is_looked_for = mode == "train" and not _is_one_of_many()
    if is_looked_for and prefix not in (None, "auto") and not Path(weights_file(prefix)).is_file():
        yield (
            f"Global.checkpoints: {weights_file(prefix)} does not exist; 'auto' resumes from the newest complete "
            "checkpoint in output_dir, if there is one."
        )


def _check_images(config: Config, mode: Mode) -> Iterator[str]:
    """Check the required, random and sized transforms of each data set."""
    from ppfacerec.data import TRANSFORMS

    for path, section in (("DataLoader.Train", config.DataLoader.Train), ("DataLoader.Eval", config.DataLoader.Eval)):
        if section is None or not _is_used(section.dataset, config, mode):
            continue
        names, sized = [spec.name for spec in section.transform_ops], []
        for needed in TRANSFORMS.names():
            if getattr(TRANSFORMS.get(needed), "is_needed", False) and needed not in names:
                yield f"{path}.dataset.transform_ops: {needed} is missing; the network needs it."
        for spec in section.transform_ops:
            if path == "DataLoader.Eval" and getattr(TRANSFORMS.get(spec.name), "is_random", False):
                yield f"{spec.path}: evaluation takes no random transform; Global.flip_test adds the mirror image."
            if "size" in spec.kwargs:
                sized.append(spec)
        if sized and sized[-1].kwargs["size"] not in (IMAGE_SIZE, (IMAGE_SIZE, IMAGE_SIZE)):
            last = sized[-1]
            yield f"{last.path}.size: the backbones take 112 x 112, found {thaw(last.kwargs['size'])}."


# (sections that a rule reads, rule)
_RULES: tuple[tuple[tuple[str, ...], Callable[[Config, Mode], Iterator[str]]], ...] = (
    (("Arch",), _check_embedding_size),
    (("Global",), _check_global),
    (("DataLoader", "Global"), _check_images),
)
