"""Binding of a plain tree of dicts and lists to the frozen sections of the schema."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Optional, Union, get_args, get_origin, get_type_hints

from ppfacerec.config.schema import DataSection, OptimizerSection, Specs
from ppfacerec.config.types import describe, matches
from ppfacerec.core.registry import Spec, freeze, near_match, thaw


class Binder:
    """Converts a plain tree to sections and collects every problem."""

    def __init__(self) -> None:
        self.problems: list[str] = []  # each with its dotted path

    def section(self, cls: Any, tree: Any, path: str = "") -> Any:
        """Bind a mapping to a section; missing parts are reported and left empty, so that the rest can be checked."""
        if not isinstance(tree, Mapping):
            self.problems.append(f"{path}: expected a mapping, found {tree!r}.")
            return None
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
                values[name] = self.value(hints[name], tree[name], _join(path, _PLACES.get(name, name)), required)
            elif required:
                self.problems.append(f"{_join(path, name)}: missing; expected {spec.metadata['help']}.")
                values[name] = () if hints[name] is Specs else None
        return cls(**values)

    def value(self, hint: Any, value: Any, path: str, required: bool = True) -> Any:
        args = [a for a in get_args(hint) if a is not type(None)]
        if get_origin(hint) is Union and len(args) == 1 and (args[0] is Spec or dataclasses.is_dataclass(args[0])):
            hint = args[0]
        if hint is Spec:
            return self.spec(value, path)
        if hint is Specs:
            return self.specs(value, path) if value or required else ()
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

    def _split_optimizer(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """Move the optimizer's own arguments, which PaddleClas's grammar puts beside `lr` and ours, to `spec`."""
        ours = ("lr", "clip_norm", "one_dim_param_no_weight_decay", "no_weight_decay_name")
        own = {k: v for k, v in tree.items() if k not in ours}
        return {"spec": own, **{k: v for k, v in tree.items() if k in ours}}

    def _lift_transforms(self, tree: Mapping[str, Any], path: str) -> dict[str, Any]:
        """Move `transform_ops` out of `dataset`, where PaddleClas's grammar puts it."""
        dataset = tree.get("dataset")
        if not isinstance(dataset, Mapping):  # reported separately
            return {**tree, "transform_ops": ["DecodeImage"]}
        if "transform_ops" not in dataset:
            self.problems.append(f"{path}.dataset.transform_ops: expected at least DecodeImage and NormalizeImage.")
        rest = {k: v for k, v in dataset.items() if k != "transform_ops"}
        return {**tree, "dataset": rest, "transform_ops": dataset.get("transform_ops") or ["DecodeImage"]}

    def _report_unknown(self, tree: Mapping[str, Any], known: list[str], fields: Mapping[str, Any], path: str) -> None:
        for key in tree:
            if key not in fields:
                self.problems.append(
                    f"{_join(path, str(key))}: unknown key{near_match(str(key), known)} Known keys: {', '.join(known)}."
                )


# Fields whose path in the YAML differs from their name.
_PLACES = {"spec": "", "transform_ops": "dataset.transform_ops"}


def _join(path: str, key: str) -> str:
    return ".".join(part for part in (path, key) if part)


def _show(value: Any) -> str:
    text = f"{thaw(value)!r}"
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
