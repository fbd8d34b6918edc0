"""Weights from an address: whole or not there, checked, kept, and gone on with after an interruption."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ppfacerec.weights_io import fetch as fetch_module
from ppfacerec.weights_io.fetch import fetch, is_local_prefix, problem_of
from ppfacerec.weights_io.zoo import ZOO

CONTENT = bytes(range(256)) * 400


class Server:
    """Serves CONTENT with ranges and an ETag; can be told to hang up early, or to change the file."""

    def __init__(self) -> None:
        self.stop_after, self.tag, self.ranges, self.requests, self.status = None, '"1"', True, [], None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range") if server.ranges else None
                server.requests.append(asked)
                if server.status:
                    self.send_error(server.status)
                    return
                start = 0
                if asked and self.headers.get("If-Range") == server.tag:
                    start = int(asked[len("bytes=") : -1])
                body = CONTENT[start:]
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", server.tag)
                self.end_headers()
                self.wfile.write(body[: server.stop_after])

            def log_message(self, *arguments) -> None:
                pass

        self._http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/my%20net.pdparams?x=1"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("PPFACEREC_CACHE", str(tmp_path / "cache"))
    server = Server()
    yield server
    server.close()


def files(tmp_path):
    return sorted(p.name.split("-", 1)[1] for p in (tmp_path / "cache").iterdir() if not p.name.endswith(".lock"))


def test_a_file_is_downloaded_once(server, tmp_path):
    first, second = fetch(server.url), fetch(server.url)
    assert first == second
    assert first.read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert files(tmp_path) == ["my_20net.pdparams"]


def test_an_interrupted_download_is_never_half_there_and_goes_on(server, tmp_path):
    server.stop_after = 30_000
    with pytest.raises(
        ValueError, match=r"30000 of 102400 bytes were received\. Try again, it goes on where it stopped"
    ):
        fetch(server.url)
    assert files(tmp_path) == ["my_20net.pdparams.part", "my_20net.pdparams.part.etag"]
    server.stop_after = None
    assert fetch(server.url).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=30000-"]
    assert files(tmp_path) == ["my_20net.pdparams"]


@pytest.mark.parametrize("change", [{"tag": '"2"'}, {"ranges": False}])
def test_a_file_that_changed_or_cannot_be_resumed_begins_anew(server, tmp_path, change):
    server.stop_after = 30_000
    with pytest.raises(ValueError, match="of 102400 bytes"):
        fetch(server.url)
    server.stop_after = None
    vars(server).update(change)
    assert fetch(server.url).read_bytes() == CONTENT


def test_a_wrong_checksum_removes_the_file(server, tmp_path, monkeypatch):
    model = dataclasses.replace(ZOO["paddleclas-mobilefacenet"], url=server.url, sha256="0" * 64)
    monkeypatch.setitem(fetch_module.ZOO, "paddleclas-mobilefacenet", model)
    with pytest.raises(ValueError, match=rf"SHA-256 {hashlib.sha256(CONTENT).hexdigest()}, expected 0000"):
        fetch("paddleclas-mobilefacenet")
    assert files(tmp_path) == []
    right = dataclasses.replace(model, sha256=hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setitem(fetch_module.ZOO, "paddleclas-mobilefacenet", right)
    assert fetch("paddleclas-mobilefacenet").read_bytes() == CONTENT


def test_a_server_that_refuses_is_named(server, tmp_path):
    server.status = 404
    with pytest.raises(ValueError, match=r"the download failed \(HTTP Error 404: Not Found\)"):
        fetch(server.url)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("http://example.com/a.pdparams", "expected an https URL, found http://example.com/a.pdparams"),
        ("ftp://example.com/a.pdparams", "expected an https URL"),
        ("adaface-ir50-ms1mv2", r"has no direct address; download it by hand from https://github\.com/mk-minchul"),
        ("paddleclas-mobilefacnet.pdparams", r"does not exist\. Did you mean 'paddleclas-mobilefacenet'\?"),
        ("no/such/file.pth", r"no/such/file\.pth does not exist\.$"),
    ],
)
def test_what_cannot_be_fetched_is_said_before_anything_starts(name, message):
    with pytest.raises(ValueError, match=message):
        fetch(name)


def test_names_of_files_urls_and_the_zoo_are_told_apart(tmp_path):
    assert is_local_prefix("output/X/best_model")
    assert is_local_prefix("output/X/epoch_1.5")
    for name in ("a.pdparams", "a.pth", "https://x.org/a", "paddleclas-resnet50", str(tmp_path)):
        assert not is_local_prefix(name)
    assert problem_of("https://x.org/a") is None
    assert Path(fetch(str(tmp_path))) == tmp_path
