"""Check plain YAML values against type annotations, of the schema and of constructors alike."""

import collections.abc
import typing
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

_UNIONS = (Union, UnionType)
_SEQUENCES = (list, tuple, collections.abc.Sequence)
_MAPPINGS = (dict, collections.abc.Mapping)


def describe(annotation: Any) -> str:
    """Describe the values that an annotation allows: ``"an integer or null"``, ``"one of 'O1', 'O2'"``."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin in _UNIONS:
        return " or ".join(describe(a) for a in args)
    if origin is Literal:
        return ("one of " if len(args) > 1 else "") + ", ".join(repr(a) for a in args)
    if origin in _SEQUENCES or annotation in _SEQUENCES:
        inner = [describe(a) for a in args if a is not Ellipsis]
        return f"a list of {inner[0]}" if inner else "a list"
    if origin in _MAPPINGS or annotation in _MAPPINGS:
        return "a mapping"
    return {bool: "true or false", str: "a text", int: "an integer", float: "a number"}.get(annotation, str(annotation))


def matches(value: Any, annotation: Any) -> bool:
    """Return whether a plain YAML value fits the annotation; an int passes as float, a bool never as int."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation in (Any, typing.Callable) or isinstance(annotation, (str, typing.TypeVar)):
        return True
    if origin in _UNIONS:
        return any(matches(value, a) for a in args)
    if origin is Literal:
        return any(value == a and type(value) is type(a) for a in args)
    if origin in _SEQUENCES or annotation in _SEQUENCES:
        return isinstance(value, (list, tuple)) and _items_match(value, args)
    if origin in _MAPPINGS or annotation in _MAPPINGS:
        return isinstance(value, Mapping)
    if annotation is bool or isinstance(value, bool):
        return annotation is bool and isinstance(value, bool)
    if annotation is float:
        return isinstance(value, (int, float))
    return isinstance(value, annotation) if isinstance(annotation, type) else True


def _items_match(values: Sequence[Any], args: tuple[Any, ...]) -> bool:
    if not args:
        return True
    if len(args) > 1 and args[-1] is not Ellipsis:  # tuple[int, int]: one annotation per item
        return len(values) == len(args) and all(matches(v, a) for v, a in zip(values, args))
    return all(matches(v, args[0]) for v in values)
