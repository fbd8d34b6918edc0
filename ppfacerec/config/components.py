"""Named components against the signatures of their constructors."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection
from typing import Any

from ppfacerec.config.types import describe, matches
from ppfacerec.registry import Registry, Spec, near_match


def check_spec(
    registry: Registry,
    spec: Spec,
    given: Collection[str] = (),
    extra: Collection[str] = (),
    optional: Collection[str] = (),
) -> list[str]:
    """Check one component's name and arguments against its constructor.

    Args:
        given: parameters that the engine passes and the YAML must not.
        extra: keys beside the constructor's that the engine reads itself.
        optional: parameters that the engine passes where the YAML leaves them out or has null.
    """
    if spec.name not in registry:
        known = registry.names()
        return [
            f"{spec.path}: unknown {registry.kind} '{spec.name}'{near_match(spec.name, known)}"
            f" Known: {', '.join(known)}."
        ]
    parameters = {n: p for n, p in registry.signature(spec.name).parameters.items() if n not in given}
    hints = _type_hints(registry.get(spec.name))
    problems = []
    for name, value in spec.kwargs.items():
        if name not in parameters and name not in extra:
            known = [*parameters, *extra]
            problems.append(
                f"{spec.path}.{name}: {spec.name} has no argument '{name}'{near_match(name, known)}"
                f" It takes: {', '.join(known) or 'none'}."
            )
        elif name in optional and value is None:
            continue
        elif name in hints and not matches(value, hints[name]):
            problems.append(
                f"{spec.path}.{name}: expected {describe(hints[name])}, found {value!r} ({type(value).__name__})."
            )
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and name not in spec.kwargs and name not in optional:
            problems.append(f"{spec.path}.{name}: missing; {spec.name} needs it.")
    return problems


def _type_hints(component: Callable[..., Any]) -> dict[str, Any]:
    function = component.__init__ if inspect.isclass(component) else component  # type: ignore[misc]
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):  # a plugin's annotation that does not evaluate: nothing to check against
        return {}
