"""Arguments of components and keys of sections, with type, default, range and help; checks against them."""

import dataclasses
import importlib
import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from ppfacerec.config.types import describe, matches
from ppfacerec.core.ranges import Range, range_of, range_problem
from ppfacerec.core.registry import Registry, Spec, near_match

REQUIRED = dataclasses.MISSING


@dataclass(frozen=True)
class Argument:
    """A key of a section or an argument of a component; `hint` is its type, `default` may be REQUIRED."""

    hint: Any
    default: Any
    help: str
    range: Optional[Range]


def registry_of(rules: Mapping[str, Any]) -> Registry:
    """Return the registry named in the metadata of a ``Spec`` field."""
    module, _, name = rules["registry"].rpartition(".")
    registry: Registry = getattr(importlib.import_module(f"ppfacerec.{module}"), name)
    return registry


def keys_of(section: type) -> dict[str, Argument]:
    """Return the plain keys of a section."""
    hints = typing.get_type_hints(section)
    return {
        f.name: Argument(hints[f.name], f.default, f.metadata["help"], f.metadata["range"])
        for f in dataclasses.fields(section)
        if "range" in f.metadata
    }


def arguments_of(registry: Registry, name: str, rules: Mapping[str, Any]) -> dict[str, Argument]:
    """Return the YAML arguments of a component: its constructor's parameters and the keys that the engine reads."""
    component = registry.get(name)
    hints, helps = _type_hints(component), _documented(component)
    found = {
        n: Argument(
            hints.get(n, Any), REQUIRED if p.default is p.empty else p.default, helps.get(n, ""), range_of(n, name)
        )
        for n, p in registry.signature(name).parameters.items()
        if n not in rules.get("given", ())
    }
    extra = rules.get("extra", {}).items()
    return found | {n: Argument(hint, default, text, range_of(n, name)) for n, (hint, default, text) in extra}


def check_spec(registry: Registry, spec: Spec, rules: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems of a component's name and arguments; `rules` are those of ``schema.component``."""
    if spec.name not in registry:
        known = registry.names()
        yield (
            f"{spec.path}: unknown {registry.kind} '{spec.name}'{near_match(spec.name, known)}"
            f" Known: {', '.join(known) or 'none'}."
        )
        return
    arguments, optional = arguments_of(registry, spec.name, rules), rules.get("optional", ())
    spec = registry.canonical(spec)
    for name, value in spec.kwargs.items():
        argument = arguments.get(name)
        ours = registry.canonical_name(spec.name, name)
        if ours != name:
            yield f"{spec.path}.{name}: another name of {ours}, and both are given; leave one out."
        elif argument is None:
            yield (
                f"{spec.path}.{name}: {spec.name} has no argument '{name}'{near_match(name, arguments)}"
                f" It takes: {', '.join(arguments) or 'none'}."
            )
        elif name in optional and value is None:
            continue
        elif not matches(value, argument.hint):
            yield f"{spec.path}.{name}: expected {describe(argument.hint)}, found {value!r} ({type(value).__name__})."
        elif range_problem(value, argument.range):
            yield f"{spec.path}.{name}: {range_problem(value, argument.range)}."
    for name, argument in arguments.items():
        if argument.default is REQUIRED and name not in spec.kwargs and name not in optional:
            yield f"{spec.path}.{name}: missing; {spec.name} needs it."


def _type_hints(component: Callable[..., Any]) -> dict[str, Any]:
    function = component.__init__ if inspect.isclass(component) else component  # type: ignore[misc]
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):  # a plugin's annotation cannot be evaluated: nothing to check against
        return {}


def _documented(component: Any) -> dict[str, str]:
    """Collect the "Args:" texts from the docstrings of a component, its base classes and `documented_by`."""
    found: dict[str, str] = {}
    for one in [*getattr(component, "__mro__", [component]), getattr(component, "documented_by", None)]:
        block = re.search(r"\nArgs:\n((?:    .*\n?|\n)+)", inspect.cleandoc(one.__doc__ or "")) if one else None
        for names, text in re.findall(r"^    (\w[\w, ]*): ((?:.+\n?)(?:     .+\n?)*)", block[1] if block else "", re.M):
            for name in names.split(", "):
                found.setdefault(name, " ".join(text.split()))
    return found
