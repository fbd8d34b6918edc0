"""Limits on plain data: no list that contains itself, no deep nesting, no keys that make a dict slow."""

from typing import Any

MAX_DEPTH = 100  # nested lists, tuples and dicts
MAX_VALUES = 50_000_000  # in the result; a shared value counts once per reference


class BadPickleError(Exception):
    """Invalid opcodes; the reader turns it into a ValueError that names the file."""


def check_key(key: Any) -> Any:
    """Return a dict's key if it is text, bytes or a number of 64 bits.

    The hash of a deep tuple overflows the C stack, and long integers can be chosen to have the same hash.
    """
    if isinstance(key, (str, bytes, float, type(None))) or (isinstance(key, int) and abs(key) < 2**63):
        return key
    raise BadPickleError(f"a dict has a key of type {type(key).__name__}, or one that is too long")


def check_tree(value: Any) -> None:
    """Raise BadPickleError if a traversal of `value` would not end."""
    _measure(value, MAX_DEPTH, {})


def _measure(value: Any, depth_left: int, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return (values, depth) of plain data; refuse endless nesting and data that expands to a huge tree."""
    if not isinstance(value, (list, tuple, dict)):
        return 1, 0
    if id(value) not in known:
        if depth_left == 0:
            raise BadPickleError(f"lists or dicts are nested more than {MAX_DEPTH} deep, or contain themselves")
        children = value.values() if isinstance(value, dict) else value
        measures = [_measure(child, depth_left - 1, known) for child in children]
        known[id(value)] = 1 + sum(m[0] for m in measures), 1 + max((m[1] for m in measures), default=0)
    values, depth = known[id(value)]
    if values > MAX_VALUES or depth > depth_left:
        raise BadPickleError(f"it expands to more than {MAX_VALUES} values or {MAX_DEPTH} levels")
    return values, depth
