"""Download a file over https: resumable through a part file, limited in size, complete or an error."""

import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO

from tqdm import tqdm

from ppfacerec.core.log import logger
from ppfacerec.core.printable import without_secrets

SIZE_VARIABLE = "PPFACEREC_MAX_DOWNLOAD"
MAX_SIZE = 8 << 30  # bytes; the largest published weights here have 1 GB
_TIMEOUT = 30  # seconds without a byte
_BLOCK = 1 << 20
_WINDOW, _SLOWEST = 60.0, 1000  # seconds, and the fewest bytes per second over them before a server is abandoned
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


def is_secure(url: str) -> bool:
    """Whether a URL is https, or http to this machine."""
    return urllib.parse.urlsplit(url).scheme == "https" or _is_local(url)


def _is_local(url: str) -> bool:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme == "http" and parts.hostname in _LOCAL_HOSTS


def download(url: str, part: Path) -> None:
    """Download to `part`, resuming an earlier attempt.

    A part belongs to one version of the file: the server's ETag is kept beside it and sent along (If-Range), so
    that the server sends a changed file from its beginning.

    Raises:
        ValueError: the download fails; what was received stays in `part` unless it is unusable.
    """
    tag_file, shown = part.with_name(part.name + ".etag"), without_secrets(url)
    try:
        with _request(url, part, tag_file) as response:
            resumed = response.status == 206
            tag_file.write_text(response.headers.get("ETag") or "", encoding="utf-8")
            start = part.stat().st_size if resumed else 0
            total = _total(response, start)
            free = shutil.disk_usage(part.parent).free
            if total is not None and total - start > free:
                raise OSError(f"{total - start:,} bytes are missing, and only {free:,} are free in {part.parent}")
            if resumed:
                logger.info("%s: resuming at %.1f MB", url, start / 1e6)
            _copy(response, part, start, total)
    except (urllib.error.URLError, HTTPException, OSError) as error:
        raise ValueError(
            f"{shown}: the download failed ({without_secrets(str(error))}). Try again: it resumes where it stopped; or "
            "download the file by hand and give its path."
        ) from error
    if total is not None and part.stat().st_size != total:
        raise ValueError(
            f"{shown}: {part.stat().st_size} of {total} bytes were received. Try again: it resumes where it stopped."
        )
    tag_file.unlink()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Refuse redirects to http, and from other hosts to this machine, before they are followed."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        is_https = urllib.parse.urlsplit(newurl).scheme == "https"
        if not is_https and not (_is_local(req.full_url) and _is_local(newurl)):
            raise OSError(f"it was redirected to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _request(url: str, part: Path, tag_file: Path) -> HTTPResponse:
    headers = {"User-Agent": "ppfacerec"}
    tag = tag_file.read_text(encoding="utf-8") if tag_file.is_file() else ""
    have = part.stat().st_size if part.is_file() else 0
    if have and tag:
        headers.update({"Range": f"bytes={have}-", "If-Range": tag})
    opener = urllib.request.build_opener(_Redirects)
    try:
        response: HTTPResponse = opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
        if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise OSError(f"requested the bytes from {have} on, got {response.headers.get('Content-Range')}")
        return response
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:  # the part is as long as the file, or longer
            raise
        part.unlink()
        tag_file.unlink()
        return _request(url, part, tag_file)


def _total(response: HTTPResponse, start: int) -> int | None:
    """Return the file's size, None for chunked transfers; raise an OSError if it is unknown or not allowed."""
    most, length = max_size(), response.headers.get("Content-Length", "")
    total = start + int(length) if re.fullmatch(r"\d{1,18}", length) else None
    if total is None and not response.chunked:
        raise OSError("the server does not send its length, so completeness cannot be checked")
    whole = re.fullmatch(r"bytes \d+-\d+/(\d{1,18})", response.headers.get("Content-Range", ""))
    if whole and total is not None and int(whole[1]) != total:
        raise OSError(f"the server reports two sizes, {int(whole[1]):,} and {total:,} bytes")
    if total is not None and total > most:
        raise OSError(_too_large(f"{total:,} bytes"))
    return total


def max_size() -> int:
    """Largest allowed download in bytes: ``$PPFACEREC_MAX_DOWNLOAD``, or 8 GiB."""
    text = os.environ.get(SIZE_VARIABLE, str(MAX_SIZE))
    if not re.fullmatch(r"\d{1,18}", text):
        raise ValueError(f"{SIZE_VARIABLE}: expected a number of bytes, found {text!r}.")
    return int(text)


def _too_large(what: str) -> str:
    return f"{what}, more than the {max_size():,} that are allowed; {SIZE_VARIABLE} sets another limit"


def _copy(response: HTTPResponse, part: Path, start: int, total: int | None) -> None:
    bar = tqdm(
        total=total, initial=start, unit="B", unit_scale=True, desc=part.name[13:-5], disable=not sys.stderr.isatty()
    )
    with open(part, "ab" if response.status == 206 else "wb") as file, bar:
        began, received = time.monotonic(), 0
        for block in iter(lambda: response.read1(_BLOCK), b""):  # `read` would wait for a whole block
            file.write(block)
            bar.update(len(block))
            seconds, received = time.monotonic() - began, received + len(block)
            if seconds >= _WINDOW:
                if received < _SLOWEST * seconds:
                    raise OSError(f"the server sent {received:,} bytes in {seconds:.0f} s, too slow; giving up")
                began, received = time.monotonic(), 0
            if total is None and file.tell() > max_size():
                file.truncate(0)
                raise OSError(_too_large("it does not end"))
        file.flush()
        os.fsync(file.fileno())
