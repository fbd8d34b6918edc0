"""Strict YAML.

Differences from ``yaml.safe_load``: a duplicate key in a mapping is an error with both line numbers; ``4e-3`` (a string
in PyYAML) and quotients such as PaddleClas's ``1.0/255.0`` are numbers; ``None`` is null. Values of ``-o`` may also be
Python tuples; other Python expressions, which PaddleClas evaluates, are rejected.
"""

import copy
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union

import yaml

from ppfacerec.config.errors import ConfigError
from ppfacerec.core.io.text_file import read_text
from ppfacerec.core.registry import near_match

MAX_LENGTH = 1 << 18  # characters; the longest shipped config has 4 KiB, and PyYAML parses some 100 KiB per second
MAX_DEPTH = 500  # of brackets; those in comments and strings count too, hence the wide margin
MAX_VALUES = 100_000  # nested aliases ("a billion laughs") expand a few lines to more than the memory

_NUMBER = r"[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?"
_FLOAT, _QUOTIENT = re.compile(rf"^{_NUMBER}$"), re.compile(rf"^({_NUMBER})\s*/\s*({_NUMBER})$")

Loader = TypeVar("Loader", bound="_PlainLoader")


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader without merge keys: nested merges grow without bound while they are parsed."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, "the merge key '<<' is not supported; write the keys out", key_node.start_mark
                )


class _StrictLoader(_PlainLoader):
    """SafeLoader that collects duplicate keys in `problems` and resolves exponents and quotients."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.problems: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        if not isinstance(node, yaml.MappingNode):  # `!!map [1]`: PyYAML raises the error
            return super().construct_mapping(node, deep)
        self.flatten_mapping(node)
        first_line: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if isinstance(key, Hashable) and key in first_line:
                self.problems.append(
                    f"line {line}: the key '{key}' is repeated (first in line {first_line[key]}); keep one."
                )
            elif isinstance(key, Hashable):
                first_line[key] = line
        return super().construct_mapping(node, deep)


def _construct_float(loader: _StrictLoader, node: yaml.ScalarNode) -> float:
    return float(loader.construct_scalar(node))


def _construct_quotient(loader: _StrictLoader, node: yaml.ScalarNode) -> Any:
    text = loader.construct_scalar(node)
    match = _QUOTIENT.match(text)
    assert match is not None, "the resolver matched this scalar"
    if float(match.group(2)) == 0:
        loader.problems.append(f"line {node.start_mark.line + 1}: '{text}' divides by zero.")
        return text
    return float(match.group(1)) / float(match.group(2))


_StrictLoader.add_constructor("!exponent", _construct_float)
_StrictLoader.add_constructor("!quotient", _construct_quotient)
# Resolvers of a first character are tried in order, so PyYAML still resolves plain ints and floats.
_StrictLoader.add_implicit_resolver("!exponent", _FLOAT, list("-+.0123456789"))
_StrictLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^None$"), ["N"])
_StrictLoader.add_implicit_resolver("!quotient", _QUOTIENT, list("-+.0123456789"))


def parse_yaml(text: str, source: str) -> tuple[Any, list[str]]:
    """Parse one YAML document; return it and its problems: duplicate keys and divisions by zero, with the line.

    Raises:
        ConfigError: the text is not YAML, is too long, or its aliases expand to too many values.
    """
    loader, value = _load(_StrictLoader, text, source)
    return value, loader.problems


def parse_plain_yaml(text: str, source: str) -> Any:
    """Parse YAML that a program wrote, as ``yaml.safe_load`` would, within the same limits; errors as `parse_yaml`."""
    return _load(_PlainLoader, text, source)[1]


def _load(kind: type[Loader], text: str, source: str) -> tuple[Loader, Any]:
    if len(text) > MAX_LENGTH:
        raise ConfigError([f"{len(text):,} characters of YAML; no config needs more than {MAX_LENGTH:,}."], source)
    if _bracket_depth(text) > MAX_DEPTH:  # PyYAML's time grows with the square of the depth
        raise ConfigError([f"brackets are nested more than {MAX_DEPTH} deep."], source)
    loader = None
    try:
        loader = kind(text)
        value = loader.get_single_data()
        size = _unfolded_size(value, {})
    except yaml.YAMLError as error:
        raise ConfigError([f"not valid YAML: {_one_line(error)}"], source) from error
    except RecursionError as error:
        raise ConfigError(["nested too deeply, or an alias contains itself."], source) from error
    except (ValueError, OverflowError) as error:  # a number of thousands of digits, a 13th month
        raise ConfigError([f"a value cannot be read: {_first_line(error)}."], source) from error
    finally:
        if loader:
            loader.dispose()
    if size > MAX_VALUES:
        raise ConfigError(
            [f"its aliases expand to more than {MAX_VALUES:,} values; no config needs that many."], source
        )
    return loader, value


def _bracket_depth(text: str) -> int:
    depth = deepest = 0
    for bracket in re.findall(r"[][{}]", text):
        depth = max(depth + (1 if bracket in "[{" else -1), 0)
        deepest = max(deepest, depth)
    return deepest


def _unfolded_size(value: Any, known: dict[int, int]) -> int:
    """Return the number of values in a tree with all aliases expanded; RecursionError for a cycle."""
    if not isinstance(value, (dict, list, tuple, set)):  # tuple and set come from !!omap, !!pairs and !!set
        return 1
    if id(value) not in known:
        children = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_unfolded_size(child, known) for child in children)
    return known[id(value)]


def _first_line(text: object) -> str:
    return str(text).split("\n")[0][:200]


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or error
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}." if mark else _first_line(problem)


def read_yaml(path: Union[str, Path]) -> tuple[dict[str, Any], list[str]]:
    """Read a config file into nested dicts; return them and the problems that ``parse_yaml`` found.

    Raises:
        ConfigError: the file is missing, unreadable, not YAML, or not a mapping at the top level.
    """
    path = Path(path)
    if path.is_file() and path.stat().st_size > 4 * MAX_LENGTH:  # a character has at most 4 bytes
        raise ConfigError([f"{path.stat().st_size:,} bytes; no config needs that many."], str(path))
    if not path.exists():
        siblings = [p.name for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise ConfigError([f"the file does not exist{near_match(path.name, siblings)}"], str(path))
    try:
        text = read_text(path, "config")
    except ValueError as error:
        raise ConfigError([str(error)], str(path)) from error
    tree, problems = parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise ConfigError([f"expected sections (Global, Arch, ...), found {type(tree).__name__}."], str(path))
    return tree, problems


def apply_overrides(tree: dict[str, Any], overrides: Sequence[str]) -> list[str]:
    """Write ``a.b.0.c=value`` overrides into `tree` in place; values are YAML, split at the first ``=``.

    The path to a key must exist; the schema later checks whether the key is known.

    Returns:
        The problems: no ``=``, a value that is not YAML, a list index out of range, a path through a plain value.
    """
    problems = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            problems.append(f"-o {override}: expected KEY=VALUE, for example -o Global.epochs=5.")
            continue
        try:
            value, found = parse_yaml(_without_tuple(text), f"-o {override}")
            if isinstance(value, str) and _ARITHMETIC.match(value) and not _QUOTIENT.match(value):
                raise ConfigError([f"arithmetic such as {value} is not evaluated; write the number."])
            _set_by_path(tree, key.strip().split("."), value)
        except ConfigError as error:
            found = error.problems
        problems.extend(f"-o {override}: {problem}" for problem in found)
    return problems


_ARITHMETIC = re.compile(r"^(?=.*\d)[\d.eE()\s]+([-+*/]+[\d.eE()\s]+)+$")


def _without_tuple(text: str) -> str:
    """Convert a Python tuple such as ``(3, 112, 112)`` to a YAML list."""
    inner = re.fullmatch(r"\s*\((.*),?\s*\)\s*", text)
    return f"[{inner[1].rstrip().rstrip(',')}]" if inner and "(" not in inner[1] else text


def _set_by_path(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    node: Any = tree
    for depth, key in enumerate(keys):
        where, last = ".".join(keys[: depth + 1]), depth == len(keys) - 1
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                raise ConfigError([f"{where}: expected a list index from 0 to {len(node) - 1}, found '{key}'."])
            place: Any = int(key)
        elif isinstance(node, dict):
            place = key
            if not last and node.get(key) is None:
                node[key] = {}
        else:
            raise ConfigError([f"{'.'.join(keys[:depth])} is the plain value {node!r}; it has no '{key}'."])
        if last:
            node[place] = value
        else:
            node[place] = copy.copy(node[place])  # a YAML alias (*ops) is one object in two places
            node = node[place]
