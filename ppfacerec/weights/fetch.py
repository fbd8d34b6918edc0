"""Find weights: a file, a model of the zoo, or an https URL, downloaded once and cached."""

import hashlib
import os
import re
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ppfacerec.core.io.atomic_file import atomic_write
from ppfacerec.core.io.user_files import sha256 as file_digest
from ppfacerec.core.log import logger
from ppfacerec.core.printable import without_secrets
from ppfacerec.core.registry import near_match
from ppfacerec.weights.download import download, is_secure
from ppfacerec.weights.zoo import ZOO

SUFFIXES = (".pdparams", ".pth", ".pt", ".ckpt", ".safetensors", ".tar")
CACHE_VARIABLE = "PPFACEREC_CACHE"
_CHECKSUM = re.compile(r"sha256=([0-9a-fA-F]{64})")


def weights_file(name: str) -> str:
    """Return the file for a name without suffix: ``output/X/best_model`` means ``output/X/best_model.pdparams``.

    That holds even beside a folder of the same name, as PaddleClas creates one. Other files, URLs, models of the zoo
    and folders are returned unchanged.
    """
    if name in ZOO or "://" in name or Path(name).suffix in SUFFIXES:
        return name
    file = f"{name.rstrip('/')}.pdparams"
    return file if Path(file).is_file() or not Path(name).exists() else name


def problem_of(name: str) -> str | None:
    """Return what is wrong with a file, a zoo name or a URL, or None; nothing is downloaded."""
    if "://" in name:
        shown = without_secrets(name)
        if not is_secure(name):
            return f"expected an https URL, found {shown}; download it by hand and give the file."
        if "@" in urllib.parse.urlsplit(name).netloc:
            return f"{shown}: a user name and password in a URL are not sent; download it by hand and give the file."
        fragment = name.partition("#")[2]
        if fragment and not _CHECKSUM.fullmatch(fragment):
            return f"{shown}: expected #sha256= and 64 hexadecimal digits after the URL."
        return None
    if name in ZOO:
        model = ZOO[name]
        if model.url:
            return None
        return (
            f"'{name}' has no direct URL; download it by hand from {model.publisher.page} and give the file, which is "
            "converted on the fly."
        )
    if Path(name).exists():
        return None
    stem = name.removesuffix(".pdparams")
    hint = near_match(stem, ZOO) if os.sep not in name else "."
    return f"{name} does not exist{hint}"


def fetch(name: str) -> Path:
    """Return the file for a path, a zoo name or a URL (downloaded unless cached); raise a ValueError on failure."""
    problem = problem_of(name)
    if problem:
        raise ValueError(problem)
    if name in ZOO:
        return _cached(str(ZOO[name].url), ZOO[name].sha256)
    if "://" not in name:
        return Path(name)
    address, _, fragment = name.partition("#")  # of https://x.org/a.pdparams#sha256=..., as pip writes it
    checksum = _CHECKSUM.fullmatch(fragment)
    return _cached(address, checksum[1].lower() if checksum else None)


def cache_folder() -> Path:
    """``$PPFACEREC_CACHE``, or ~/.cache/ppfacerec."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "ppfacerec")


def _cached(url: str, sha256: str | None) -> Path:
    """Return the cached file of a URL; its SHA-256 is recorded after the download and compared at every use."""
    name = re.sub(r"[^\w.-]", "_", urllib.parse.urlsplit(url).path.rpartition("/")[2])[-80:] or "weights"
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"
    record = path.with_name(path.name + ".sha256")
    with _only_process(path):
        if path.is_file():
            expected = sha256 or (record.read_text(encoding="utf-8").strip() if record.is_file() else None)
            if expected is not None and file_digest(path) != expected:
                raise ValueError(
                    f"{path}, downloaded from {without_secrets(url)} earlier, has changed: its SHA-256 is not "
                    f"{expected}. Remove it to download it again."
                )
            logger.info("%s: using %s", url, path)
        else:
            part = path.with_name(path.name + ".part")
            download(url, part)
            found = _checked_sum(url, part, sha256)
            with atomic_write(record) as file:
                file.write(f"{found}\n".encode())
            os.replace(part, path)
    return path


def _checked_sum(url: str, part: Path, expected: str | None) -> str:
    found = file_digest(part)
    if expected is not None and found != expected:
        part.unlink()
        raise ValueError(
            f"{without_secrets(url)}: the file has the SHA-256 {found}, expected {expected}. It was changed, or not "
            "fully received, and has been removed. Try again, or get the file elsewhere and give its path."
        )
    compared = "" if expected else f" (none to compare with; add #sha256={found} to the URL to require this file)"
    logger.info("Downloaded %s, SHA-256 %s%s", url, found, compared)
    return found


@contextmanager
def _only_process(path: Path) -> Iterator[None]:
    """Let one process at a time use the cached file: all ranks of a training request it at once."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with open(path.with_name(path.name + ".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
