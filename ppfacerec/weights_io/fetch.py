"""Where weights come from: a file, a model of the zoo, or an https address, downloaded once and kept."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Optional

from tqdm import tqdm

from ppfacerec.log import logger
from ppfacerec.registry import near_match
from ppfacerec.weights_io.zoo import ZOO

SUFFIXES = (".pdparams", ".pth", ".pt", ".ckpt", ".safetensors", ".tar")
CACHE_VARIABLE = "PPFACEREC_CACHE"
_TIMEOUT = 30  # seconds without a byte
_BLOCK = 1 << 20
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


def is_local_prefix(name: str) -> bool:
    """True for ``output/X/best_model``: a file of ours, named without its suffix."""
    is_elsewhere = name in ZOO or "://" in name or Path(name).suffix in SUFFIXES or Path(name).is_dir()
    return not is_elsewhere


def problem_of(name: str) -> Optional[str]:
    """Return what is wrong with a file, a zoo name or a URL without downloading anything, or None."""
    if "://" in name:
        if _is_secure(name):
            return None
        return f"expected an https URL, found {name}; download it by hand and give the file."
    if name in ZOO:
        model = ZOO[name]
        if model.url:
            return None
        return (
            f"'{name}' has no direct address; download it by hand from {model.page} and give the file, which is "
            "converted on the fly."
        )
    if Path(name).exists():
        return None
    stem = name.removesuffix(".pdparams")
    hint = near_match(stem, ZOO) if os.sep not in name else "."
    return f"{name} does not exist{hint}"


def _is_secure(url: str) -> bool:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL_HOSTS)


def fetch(name: str) -> Path:
    """Return the file for a path, a zoo name or a URL; the latter two are downloaded unless they are in the cache.

    Raises:
        ValueError: it does not exist, the download fails, or its checksum is another one.
    """
    problem = problem_of(name)
    if problem:
        raise ValueError(problem)
    if name in ZOO:
        return _cached(str(ZOO[name].url), ZOO[name].sha256)
    return _cached(name, None) if "://" in name else Path(name)


def cache_folder() -> Path:
    """``$PPFACEREC_CACHE``, or ~/.cache/ppfacerec."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "ppfacerec")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's contents, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(_BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def _cached(url: str, sha256: Optional[str]) -> Path:
    """The cache's file for a URL; complete or not there. Its name begins with a hash of the URL."""
    name = re.sub(r"[^\w.-]", "_", urllib.parse.urlsplit(url).path.rpartition("/")[2]) or "weights"
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"
    with _only_process(path):
        if path.is_file():
            logger.info("%s: using %s", url, path)
        else:
            part = path.with_name(path.name + ".part")
            _download(url, part)
            _check_sum(url, part, sha256)
            os.replace(part, path)
    return path


def _check_sum(url: str, part: Path, expected: Optional[str]) -> None:
    found = sha256_of(part)
    if expected is not None and found != expected:
        part.unlink()
        raise ValueError(
            f"{url}: the file has the SHA-256 {found}, expected {expected}. It was changed, or not fully received, and "
            "has been removed. Try again, or get the file elsewhere and give its path."
        )
    logger.info("Downloaded %s, SHA-256 %s%s", url, found, "" if expected else " (no published one to compare with)")


def _download(url: str, part: Path) -> None:
    """Download to `part`, going on where an earlier attempt stopped.

    A part belongs to one version of the file: the server's ETag is kept beside it and sent along (If-Range), so
    that a file that has changed meanwhile is sent from its beginning.
    """
    tag_file = part.with_name(part.name + ".etag")
    try:
        with _request(url, part, tag_file) as response:
            resumed = response.status == 206
            tag = response.headers.get("ETag")
            tag_file.write_text(tag or "", encoding="utf-8")
            start = part.stat().st_size if resumed else 0
            length = response.headers.get("Content-Length")
            total = start + int(length) if length and length.isdigit() else None
            if resumed:
                logger.info("%s: going on at %.1f MB", url, start / 1e6)
            _copy(response, part, "ab" if resumed else "wb", start, total)
    except (urllib.error.URLError, HTTPException, OSError) as error:
        raise ValueError(
            f"{url}: the download failed ({error}). Try again, it goes on where it stopped; or download the file by "
            "hand and give its path."
        ) from error
    if total is not None and part.stat().st_size != total:
        raise ValueError(
            f"{url}: {part.stat().st_size} of {total} bytes were received. Try again, it goes on where it stopped."
        )
    tag_file.unlink()


def _request(url: str, part: Path, tag_file: Path) -> HTTPResponse:
    headers = {"User-Agent": "ppfacerec"}
    tag = tag_file.read_text(encoding="utf-8") if tag_file.is_file() else ""
    have = part.stat().st_size if part.is_file() else 0
    if have and tag:
        headers.update({"Range": f"bytes={have}-", "If-Range": tag})
    try:
        response: HTTPResponse = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
        if not _is_secure(response.url):
            raise OSError(f"it was redirected to {response.url}, which is not https")
        if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise OSError(f"asked for the bytes from {have} on, got {response.headers.get('Content-Range')}")
        return response
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the part is as long as the file, or longer
            raise
        part.unlink()
        tag_file.unlink()
        return _request(url, part, tag_file)


def _copy(response: HTTPResponse, part: Path, mode: str, start: int, total: Optional[int]) -> None:
    bar = tqdm(
        total=total, initial=start, unit="B", unit_scale=True, desc=part.name[13:-5], disable=not sys.stderr.isatty()
    )
    with open(part, mode) as file, bar:
        for block in iter(lambda: response.read(_BLOCK), b""):
            file.write(block)
            bar.update(len(block))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _only_process(path: Path) -> Iterator[None]:
    """Let one process at a time work on the cache's file: the ranks of a training ask for it together."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with open(path.with_name(path.name + ".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
