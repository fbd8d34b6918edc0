"""Laws of the house: rooms stand on rooms below them, and no module imports itself by a detour."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
# From the ground up. A room may import those before it in the list.
ROOMS = (
    "core", "metrics", "data", "backbones", "heads", "losses", "optim", "recognizer", "demo", "weights", "config",
    "evaluation", "training", "inference", "export", "datatools", "engine", "cli",
)  # fmt: skip
# They import the house from outside of it: lazily (__init__), and as `python -m ppfacerec`.
DOORS = ("__init__", "__main__")
# Imports inside functions, which spare a program Paddle, matplotlib or onnxruntime until they are needed.
MOST_INNER_IMPORTS = 20  # may only fall


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in (ROOT / "ppfacerec").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """What a module imports of ours, and whether it does so inside a function; types for checkers do not count."""
    known, tree = modules(), ast.parse(path.read_text(encoding="utf-8"))
    found, skipped, inner = list[tuple[str, bool]](), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped |= {id(child) for child in ast.walk(node)}
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inner |= {id(child) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ppfacerec"):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.append((full if full in known else node.module, id(node) in inner))
        elif isinstance(node, ast.Import):
            found += [(alias.name, id(node) in inner) for alias in node.names if alias.name.startswith("ppfacerec")]
    return found


# By text, which no import shows: the schema's registries. Those above config hold only what plugins register.
NAMED_UPWARD = {"training.callbacks.CALLBACKS"}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def test_rooms_import_only_rooms_below_them():
    known = modules()
    floors = {room: number for number, room in enumerate(ROOMS)}
    assert {room_of(module) for module in known} <= {*ROOMS, *DOORS}
    upward = [
        f"{module} imports {target}"
        for module, path in known.items()
        if room_of(module) not in DOORS
        for target, _ in imports(path)
        if room_of(target) not in DOORS and floors[room_of(target)] > floors[room_of(module)]
    ]
    assert upward == []


def test_the_registries_that_the_schema_names_by_text_are_there_and_below_it():
    text = (ROOT / "ppfacerec" / "config" / "schema.py").read_text(encoding="utf-8")
    named = set(re.findall(r'"([a-z_.]+\.[A-Z_]+)"', text))
    assert "heads.HEADS" in named
    for name in named:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(f"ppfacerec.{module}"), attribute), name
    upward = {name for name in named if ROOMS.index(name.split(".")[0]) > ROOMS.index("config")}
    assert upward == NAMED_UPWARD


def test_no_module_imports_itself_by_a_detour():
    known = modules()
    graph = {
        module: sorted({t for t, is_inner in imports(path) if t in known and not is_inner and t != module})
        for module, path in known.items()
    }
    # A package's own __init__ only gathers names of its modules.
    gathers = {module for module, path in known.items() if path.name == "__init__.py"}
    done: set[str] = set()
    for start in graph:
        trail: list[str] = []

        def visit(module: str, trail: list[str] = trail) -> None:
            assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
            if module in done:
                return
            trail.append(module)
            for target in graph[module]:
                if target not in gathers:
                    visit(target)
            trail.pop()
            done.add(module)

        visit(start)


def test_few_imports_stand_inside_functions():
    known = modules()
    assert sum(is_inner for path in known.values() for _, is_inner in imports(path)) <= MOST_INNER_IMPORTS


def test_the_core_and_the_metrics_need_no_network():
    """Numbers and files without Paddle; only the device and the ranks are about it."""
    known = modules()
    for module, path in known.items():
        if room_of(module) == "metrics" or module.startswith(("ppfacerec.core.io", "ppfacerec.core.registry")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
            assert "paddle" not in names, module
