"""Nothing in the package can run what is in a file: the calls that could are not there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("ppfacerec", "tools", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
# Names whose call reads a pickle, evaluates text, or starts a program.
FORBIDDEN = {
    "pickle": {"load", "loads", "Unpickler", "_Unpickler"},
    "cPickle": {"load", "loads"},
    "dill": None,
    "cloudpickle": None,
    "joblib": None,
    "marshal": None,
    "shelve": None,
    "paddle": {"load"},
    "torch": {"load", "jit"},
    "np": {"fromregex", "genfromtxt"},
    "yaml": {"load", "load_all", "unsafe_load", "full_load", "UnsafeLoader", "FullLoader", "Loader"},
    "tarfile": None,  # whoever unpacks archives has to think of paths, links and sizes
    "shutil": {"unpack_archive"},
    "os": {"system", "popen"},
    "subprocess": None,
    "xml": None,
}
BUILTINS = {"eval", "exec", "compile", "__import__", "input"}
METHODS = {"extractall", "extract"}
ALLOWED = {
    ("ppfacerec/config/check.py", "importlib.import_module"),  # Global.plugins: a config is code (docs/security.md)
    ("ppfacerec/config/components.py", "importlib.import_module"),  # registries that the schema names
    ("ppfacerec/core/environment.py", "importlib.import_module"),  # paddle, cv2: names of ours
    ("ppfacerec/inference/runners.py", "importlib.import_module"),  # onnx, onnxruntime, paddle2onnx: names of ours
}
BENCHMARKS_MAY = "subprocess"  # they start themselves, with other arguments


def found(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield from _of_call(node)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield from _of_attribute(node.value.id, node.attr)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from _of_import(node)


def _of_call(node: ast.Call) -> Iterator[str]:
    name = node.func
    if isinstance(name, ast.Name) and name.id in BUILTINS:
        yield name.id
    if isinstance(name, ast.Attribute) and name.attr in METHODS:
        yield name.attr
    for keyword in node.keywords:
        is_false = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        if (keyword.arg == "allow_pickle" and not is_false) or keyword.arg == "shell":
            yield keyword.arg


def _of_attribute(module: str, name: str) -> Iterator[str]:
    names = FORBIDDEN.get({"numpy": "np"}.get(module, module), set())
    is_numpy_load = module in ("np", "numpy") and name in ("load", "loadtxt", "memmap")
    if names is None or name in names or is_numpy_load or (module, name) == ("importlib", "import_module"):
        yield f"{module}.{name}"


def _of_import(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if FORBIDDEN.get(alias.name.split(".")[0], set()) is None)
        return
    module = (node.module or "").split(".")[0]
    names = FORBIDDEN.get(module, set())
    yield from (f"{module}.{alias.name}" for alias in node.names if names is None or alias.name in names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_source_calls_nothing_that_could_run_a_file(path):
    name = path.relative_to(ROOT).as_posix()
    for call in found(path):
        if not (name.startswith("benchmarks/") and call.startswith(BENCHMARKS_MAY)):
            assert (name, call) in ALLOWED, f"{name} uses {call}"


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(f)", "from pickle import loads", "paddle.load(p)", "torch.load(p)", "np.load(p, allow_pickle=True)",
        "numpy.load(p)", "yaml.load(t, Loader)", "eval(t)", "exec(t)", "tarfile.open(p)", "import dill", "os.system(c)",
        "archive.extractall(p)", "subprocess.run(c)", "import tarfile", "__import__(n)", "from yaml import UnsafeLoader",
    ],
)  # fmt: skip
def test_the_check_sees_what_it_is_for(line, tmp_path):
    (tmp_path / "x.py").write_text(line)
    assert list(found(tmp_path / "x.py"))
