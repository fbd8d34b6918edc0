"""Generate the reference of all keys: ``python -m ppfacerec.config.docs > docs/config.md``."""

import dataclasses
import inspect
import typing
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, Optional

from ppfacerec.config.components import REQUIRED, Argument, arguments_of, keys_of, registry_of
from ppfacerec.config.schema import Config
from ppfacerec.config.types import describe
from ppfacerec.core.registry import Registry, near_match, thaw

_HEAD = """# Config keys

The grammar is PaddleClas's. `-o a.b.0.c=value` changes any value (YAML, split at the first `=`); several may follow
one `-o`. Numbers may be written `4e-3` and `1.0/255.0`. The whole config is checked before anything is built; unknown
keys are errors. The keys of a component (`Backbone`, `Head`, `lr`, transforms, ...) are the arguments of its class,
nothing else. PaddleClas's other keys are accepted where they have no effect: [paddleclas.md](paddleclas.md).
`ppfacerec train --help-keys SECTION` prints a section of this page; `python -m ppfacerec.config.docs` generates it.
"""


def page() -> str:
    return "\n".join([_HEAD, *(keys_page(f.name) for f in dataclasses.fields(Config))])


def keys_page(name: str) -> str:
    """Return the keys of a section such as "Optimizer" or "DataLoader.Train", and its components' arguments.

    Raises:
        ValueError: there is no such section.
    """
    cls: type = Config
    for part in name.split("."):
        hints = typing.get_type_hints(cls)
        known = [f.name for f in dataclasses.fields(cls) if _section(hints[f.name])]
        if part not in known:
            raise ValueError(
                f"--help-keys {name}: no section '{part}'{near_match(part, known)} Known: {', '.join(known)}."
            )
        cls = _section(hints[part]) or cls
    return "\n".join(_lines(cls, name))


def _section(hint: Any) -> Optional[type]:
    """Return the section class in a type hint, plain or optional."""
    sections = (one for one in (hint, *typing.get_args(hint)) if getattr(one, "__module__", "") == Config.__module__)
    return next(sections, None)


def _lines(cls: type, path: str) -> Iterator[str]:
    yield f"## {path}\n\n{(cls.__doc__ or '').splitlines()[0]}\n"
    yield from (_line(f"{path}.{name}", key) for name, key in keys_of(cls).items())
    hints = typing.get_type_hints(cls)
    for one in dataclasses.fields(cls):
        inner = _section(hints[one.name])
        if inner:
            yield from ("", *_lines(inner, f"{path}.{one.name}"))
        elif "registry" in one.metadata:
            place = {"spec": "", "transform_ops": ".dataset.transform_ops"}.get(one.name, f".{one.name}")
            yield f"\n`{path}{place}`: {one.metadata['help']}"
            yield from _components(registry_of(one.metadata), one.metadata)
    yield ""


def _components(registry: Registry, rules: Mapping[str, Any]) -> Iterator[str]:
    """Yield each component with its arguments; those that all components share are listed once, first."""
    groups: dict[str, tuple[list[str], dict[str, Argument]]] = {}  # same summary and arguments: depths of one network
    for name in registry.names():
        arguments = arguments_of(registry, name, rules)
        groups.setdefault(f"{_summary(registry.get(name))}{arguments}", ([], arguments))[0].append(name)
    first, *others = [arguments for _, arguments in groups.values()] or [{}]
    shared = [n for n, argument in first.items() if others and all(o.get(n) == argument for o in others)]
    if shared:
        yield f"\nEvery {registry.kind} takes:\n"
        yield from (_line(name, first[name]) for name in shared)
    for names, arguments in groups.values():
        yield f"\n**{', '.join(names)}**: {_summary(registry.get(names[0]))}\n"
        yield from (_line(n, argument) for n, argument in arguments.items() if n not in shared)


def _summary(component: Any) -> str:
    return (inspect.getdoc(component) or "").partition("\n")[0]


def _line(name: str, key: Argument) -> str:
    """Format one key: type or range, default and help."""
    allowed = key.range.words if key.range else describe(key.hint)
    default = "needed" if key.default is REQUIRED else f"default {_show(key.default)}"
    return f"- `{name}` ({allowed}; {default}){': ' if key.help else ''}{key.help}"


def _show(value: Any) -> str:
    value = thaw(value)
    named = {None: "null", "": "empty"}
    if isinstance(value, Hashable) and value in named:
        return named[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    print(page(), end="")
