"""Registries of the components that a YAML file may name.

A registry is a visible table next to the classes it lists (``BACKBONES`` in ``ppfacerec/backbones/__init__.py``).
Nothing is found by scanning imports; users add their own with ``.register`` in a module named in ``Global.plugins``.
"""

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


def near_match(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name: ``". Did you mean 'x'?"``, or a full stop."""
    by_lower = {str(k).lower(): str(k) for k in known}
    found = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.6)
    return f". Did you mean '{by_lower[found[0]]}'?" if found else "."


@dataclass(frozen=True)
class Spec:
    """A component in the YAML: its name, its arguments, and its dotted path."""

    name: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""


class Registry:
    """A table from name to class or function of one kind of component.

    Args:
        kind: of the entries, for messages ("backbone", "head").
        *components: classes or functions, listed under their ``__name__``.
        spellings: maps other projects' names of arguments to ours.
        **aliases: further names of components.
    """

    def __init__(
        self,
        kind: str,
        *components: Callable[..., Any],
        spellings: Mapping[str, str] = MappingProxyType({}),
        **aliases: Callable[..., Any],
    ) -> None:
        self.kind, self._spellings = kind, spellings
        self._table: dict[str, Callable[..., Any]] = {c.__name__: c for c in components}
        self._table.update(aliases)

    def register(self, component: Callable[..., Any]) -> Callable[..., Any]:
        """Add a component under its ``__name__``, also as a decorator; raise a ValueError if the name is taken."""
        name = component.__name__
        if self._table.get(name, component) is not component:
            raise ValueError(f"There is already a {self.kind} named '{name}'. Give yours another name.")
        self._table[name] = component
        return component

    def names(self) -> list[str]:
        return sorted(self._table)

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def get(self, name: str) -> Callable[..., Any]:
        """Return the component called `name`, or raise a ValueError with the nearest name and all known ones."""
        if name not in self._table:
            raise ValueError(
                f"Unknown {self.kind} '{name}'{near_match(name, self._table)} Known: {', '.join(self.names())}."
            )
        return self._table[name]

    def signature(self, name: str) -> inspect.Signature:
        """Signature of the component's constructor, without ``self``."""
        return inspect.signature(self.get(name))

    def canonical(self, spec: Spec) -> Spec:
        """Return the same component with our names of its arguments."""
        if spec.name not in self:
            return spec
        renamed = {self.canonical_name(spec.name, name): value for name, value in spec.kwargs.items()}
        is_twice = len(renamed) < len(spec.kwargs)  # reported by the config check
        return spec if is_twice else dataclasses.replace(spec, kwargs=MappingProxyType(renamed))

    def canonical_name(self, component: str, argument: str) -> str:
        """Return our name of an argument if the component does not accept the given spelling."""
        parameters, ours = self.signature(component).parameters, self._spellings.get(argument)
        return ours if ours is not None and ours in parameters and argument not in parameters else argument

    def build(self, spec: Spec, **context: Any) -> Any:
        """Call the component with the YAML's arguments and those of `context` that are in its signature.

        A null in the YAML counts as omitted if `context` has a value.
        """
        spec = self.canonical(spec)
        parameters = self.signature(spec.name).parameters
        passed = {k: v for k, v in context.items() if k in parameters and spec.kwargs.get(k) is None}
        return self.get(spec.name)(**{**spec.kwargs, **passed})


def freeze(value: Any) -> Any:
    """Return a read-only copy of a plain tree: mappings become proxies, lists become tuples."""
    if isinstance(value, Mapping):
        return MappingProxyType({k: freeze(v) for k, v in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(freeze(v) for v in value)
    return value


def thaw(value: Any) -> Any:
    """Return a plain, writable copy of a frozen tree, as for YAML."""
    if isinstance(value, Mapping):
        return {k: thaw(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [thaw(v) for v in value]
    return value
