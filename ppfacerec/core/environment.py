"""Check a machine before any work: packages, system libraries, writable folders.

Nothing here imports Paddle before its import is known to work.
"""

import importlib
import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from ppfacerec.core.log import logger
from ppfacerec.core.system_libraries import library_hint

DEVICE = re.compile(r"auto|cpu|gpu(:\d+)?")
_PADDLES = ("paddlepaddle", "paddlepaddle-gpu")
_TEMPORARY_SPACE = 256 << 20  # bytes; a traced IResNet100 has 250 MB


def install_hint(extra: str) -> str:
    """Return the command that installs an extra: from the clone, else the extra's packages without this one."""
    clone = Path(__file__).resolve().parents[2]
    if (clone / "pyproject.toml").is_file():
        return f'pip install -e "{clone}[{extra}]"' if clone != Path.cwd() else f'pip install -e ".[{extra}]"'
    needed = importlib.metadata.requires("ppfacerec") or []
    marked = (line.split(";") for line in needed if f'extra == "{extra}"' in line.replace("'", '"'))
    return "pip install " + " ".join(f'"{name.strip()}"' for name, *_ in marked)


def import_extra(module: str, extra: str, what: str) -> ModuleType:
    """Import a module of an extra; `what` begins the ImportError: which feature needs which package."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{what} ({error}): {install_hint(extra)}") from error


def check_environment() -> None:
    """Look for what would end a run later, and replace folders that are not writable.

    Raises:
        ImportError: Paddle or a system library is missing, or both builds of Paddle are installed.
        ValueError: no folder for temporary files, or a locale that cannot encode file names.
    """
    _check_locale()
    _check_one_paddle()
    _use_writable_folders()  # importing Paddle writes there, too
    problems = list(_import_problems())
    if problems:
        raise ImportError("\n".join(problems))


def _check_locale() -> None:
    if sys.getfilesystemencoding() == "ascii":
        raise ValueError(
            "The locale is ASCII and Python's UTF-8 mode is off, so a path with non-ASCII characters would end the "
            "run. Set LC_ALL=C.UTF-8, or unset PYTHONUTF8."
        )


def _check_one_paddle() -> None:
    found = [name for name in _PADDLES if _version_of(name)]
    if len(found) > 1:
        versions = " and ".join(f"{name} {_version_of(name)}" for name in found)
        raise ImportError(
            f"{versions} are both installed; they share their files, so neither works. Remove both, then install one:\n"
            f"  pip uninstall -y {' '.join(_PADDLES)}\n  {install_hint('cpu')}   (for GPUs: {install_hint('gpu')})"
        )


def _version_of(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _import_problems() -> Iterator[str]:
    """Import Paddle and OpenCV; yield what prevents it."""
    from ppfacerec.core.opencv import import_cv2

    try:
        importlib.import_module("paddle")
    except (ImportError, OSError) as error:
        if getattr(error, "name", None) == "paddle":
            yield f"Paddle is not installed: {install_hint('cpu')}   (for GPUs: {install_hint('gpu')})"
        else:
            yield f"Paddle does not start: {library_hint(error) or error}."
    try:
        import_cv2()
    except ImportError as error:
        yield str(error)


def _use_writable_folders() -> None:
    """Paddle's tracing writes below ~/.cache, and inference models are written to the temporary folder."""
    tempfile.tempdir = _temporary_folder()
    try:
        cache = Path.home() / ".cache" / "paddle" / "to_static_tmp"  # where paddle.jit.to_static puts generated code
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            return
    except (OSError, RuntimeError) as error:  # RuntimeError: an account without a home
        home = Path(tempfile.gettempdir()) / f"ppfacerec-home-{os.getuid()}"
        home.mkdir(mode=0o700, exist_ok=True)
        if home.is_symlink() or home.stat().st_uid != os.getuid():
            raise ValueError(f"{home} belongs to another user; set HOME to a writable folder.") from error
        logger.warning("HOME is not writable (%s); this run uses %s.", error, home)
        os.environ["HOME"] = str(home)


def _temporary_folder() -> str:
    """Return the first usual temporary folder with enough free space."""
    usual = [os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP")]
    for folder in filter(None, [*usual, "/tmp", "/var/tmp", tempfile.gettempdir()]):
        if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free >= _TEMPORARY_SPACE:
            return folder
    raise ValueError(
        f"no folder for temporary files has {_TEMPORARY_SPACE >> 20} MiB free: Paddle needs one to trace networks. Set "
        "TMPDIR to a writable folder, or free space in /tmp."
    )
