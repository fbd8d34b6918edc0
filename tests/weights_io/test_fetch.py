"""Weights from an address: whole or not there, checked, kept, and gone on with after an interruption."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import shutil
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ppfacerec.core.log import _Formatter
from ppfacerec.core.printable import without_secrets
from ppfacerec.weights import download as download_module
from ppfacerec.weights import fetch as fetch_module
from ppfacerec.weights.fetch import fetch, problem_of, weights_file
from ppfacerec.weights.zoo import ZOO

CONTENT = bytes(range(256)) * 400


class Server:
    """Serves CONTENT with ranges and an ETag; can be told to hang up early, or to change the file."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.stop_after, self.tag, self.ranges, self.requests, self.status = None, '"1"', True, [], None
        self.redirect, self.length, self.chunked, self.range_total = None, None, False, len(CONTENT)
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.close_connection = True
                asked = self.headers.get("Range") if server.ranges else None
                server.requests.append(asked)
                if server.status:
                    self.send_error(server.status)
                    return
                if server.redirect:
                    self.send_response(302)
                    self.send_header("Location", server.redirect)
                    self.end_headers()
                    return
                start = 0
                if asked and self.headers.get("If-Range") == server.tag:
                    start = int(asked[len("bytes=") : -1])
                body = CONTENT[start:]
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{server.range_total}")
                if server.chunked:
                    self.send_header("Transfer-Encoding", "chunked")
                    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
                elif server.length != "":
                    self.send_header("Content-Length", server.length or str(len(body)))
                self.send_header("ETag", server.tag)
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # who asked has hung up
                    self.wfile.write(body[: server.stop_after])

            def log_message(self, *arguments) -> None:
                pass

        self._http = HTTPServer(("127.0.0.1", 0), Handler)
        if context:
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self._http.server_port}/my%20net.pdparams?x=1"
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
    return sorted(
        p.name.split("-", 1)[1] for p in (tmp_path / "cache").iterdir() if not p.name.endswith((".lock", ".sha256"))
    )


def test_a_file_is_downloaded_once(server, tmp_path):
    first, second = fetch(server.url), fetch(server.url)
    assert first == second
    assert first.read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert files(tmp_path) == ["my_20net.pdparams"]


def test_an_interrupted_download_is_never_half_there_and_goes_on(server, tmp_path):
    server.stop_after = 30_000
    with pytest.raises(
        ValueError, match=r"30000 of 102400 bytes were received\. Try again: it resumes where it stopped"
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
        ("https://x.org/a.pdparams#sha256=12", "expected #sha256= and 64 hexadecimal digits after the URL"),
        ("adaface-ir50-ms1mv2", r"has no direct URL; download it by hand from https://github\.com/mk-minchul"),
        ("paddleclas-mobilefacnet.pdparams", r"does not exist\. Did you mean 'paddleclas-mobilefacenet'\?"),
        ("no/such/file.pth", r"no/such/file\.pth does not exist\.$"),
    ],
)
def test_what_cannot_be_fetched_is_said_before_anything_starts(name, message):
    with pytest.raises(ValueError, match=message):
        fetch(name)


def test_names_of_files_urls_and_the_zoo_are_told_apart(tmp_path):
    assert weights_file("output/X/best_model") == "output/X/best_model.pdparams"
    assert weights_file("output/X/epoch_1.5") == "output/X/epoch_1.5.pdparams"
    for name in ("a.pdparams", "a.pth", "https://x.org/a", "paddleclas-resnet50", str(tmp_path)):
        assert weights_file(name) == name
    assert problem_of("https://x.org/a") is None
    assert Path(fetch(str(tmp_path))) == tmp_path


@pytest.fixture
def https_server(tmp_path, monkeypatch):
    """A server with a certificate of its own; whoever is told so trusts it."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("PPFACEREC_CACHE", str(tmp_path / "cache"))
    server = Server(context)
    yield server, certificate
    server.close()


def test_https_is_for_servers_that_can_prove_who_they_are(https_server, tmp_path, monkeypatch):
    server, certificate = https_server
    with pytest.raises(ValueError, match=r"the download failed \(.*CERTIFICATE_VERIFY_FAILED"):
        fetch(server.url)
    assert files(tmp_path) == []
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server.stop_after = 30_000
    with pytest.raises(ValueError, match="30000 of 102400 bytes"):
        fetch(server.url)
    server.stop_after = None
    assert fetch(server.url).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=30000-"]


@pytest.mark.parametrize("where", ["http", "local", "file"])
def test_no_redirect_leads_from_https_to_elsewhere(https_server, server, tmp_path, monkeypatch, where):
    """Not to http, where anybody could be in between; nor to this machine, whose services trust it; nor to a file."""
    secure, certificate = https_server
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    secure.redirect = {"http": "http://example.com/a", "local": server.url, "file": "file:///etc/passwd"}[where]
    with pytest.raises(ValueError, match=r"it was redirected to .*, which is not https|Redirection to url 'file"):
        fetch(secure.url)
    assert server.requests == []
    assert files(tmp_path) == []
    secure.redirect = None
    server.redirect = secure.url
    assert fetch(server.url).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        ({"length": "999999"}, "102400 of 999999 bytes were received"),
        ({"length": ""}, "the server does not send its length, so completeness cannot be checked"),
        ({"length": "-5"}, "the server does not send its length"),
        ({"length": str(9 << 30)}, r"9,663,676,416 bytes, more than the 8,589,934,592 that are allowed; PPFACEREC_MAX"),
        ({"length": str(8 << 30)}, r"8,589,934,592 bytes are missing, and only 1,000,000,000 are free in "),
        ({"chunked": True, "stop_after": 30_000}, r"the download failed \(IncompleteRead"),
    ],
)
def test_a_server_that_lies_about_the_length_is_not_believed(server, tmp_path, monkeypatch, lie, message):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2 * 10**9, 10**9, 10**9))
    vars(server).update(lie)
    with pytest.raises(ValueError, match=message):
        fetch(server.url)
    assert not [name for name in files(tmp_path) if name.endswith(".pdparams")]


def test_what_a_server_sends_without_end_is_cut(server, tmp_path, monkeypatch):
    server.chunked = True
    assert fetch(server.url).read_bytes() == CONTENT
    monkeypatch.setenv("PPFACEREC_CACHE", str(tmp_path / "cache" / "other"))
    monkeypatch.setenv("PPFACEREC_MAX_DOWNLOAD", "50000")
    with pytest.raises(ValueError, match=r"it does not end, more than the 50,000 that are allowed"):
        fetch(server.url)
    monkeypatch.setenv("PPFACEREC_MAX_DOWNLOAD", "much")
    with pytest.raises(ValueError, match="PPFACEREC_MAX_DOWNLOAD: expected a number of bytes, found 'much'"):
        fetch(server.url)


def test_a_part_of_another_length_is_noticed(server):
    server.stop_after = 30_000
    with pytest.raises(ValueError, match="of 102400 bytes"):
        fetch(server.url)
    server.stop_after, server.range_total = None, 102401
    with pytest.raises(ValueError, match="the server reports two sizes, 102,401 and 102,400 bytes"):
        fetch(server.url)


def test_a_full_disk_keeps_what_there_is_and_goes_on_later(server, tmp_path, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, block):
            self.file.write(block[:4_000])
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(download_module, "open", lambda path, mode: Full(path.open(mode)), raising=False)
        with pytest.raises(ValueError, match=r"No space left on device\)\. Try again: it resumes where it stopped"):
            fetch(server.url)
    assert files(tmp_path) == ["my_20net.pdparams.part", "my_20net.pdparams.part.etag"]
    assert fetch(server.url).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=4000-"]


def test_a_checksum_in_the_address_is_asked_for(server, tmp_path):
    right = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(ValueError, match=rf"has the SHA-256 {right}, expected 0000"):
        fetch(f"{server.url}#sha256={'0' * 64}")
    assert files(tmp_path) == []
    path = fetch(f"{server.url}#sha256={right}")
    assert path == fetch(server.url)


def test_a_file_in_the_cache_that_has_changed_is_not_used(server):
    path = fetch(server.url)
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(ValueError, match=r"has changed: its SHA-256 is not .* Remove it to"):
        fetch(server.url)
    path.unlink()
    assert fetch(server.url).read_bytes() == CONTENT


def test_passwords_and_tokens_of_an_address_are_not_shown(server, log_lines):
    server.status = 403
    with pytest.raises(ValueError, match=r"pdparams\?\*\*\*: the download failed") as caught:
        fetch(server.url.replace("x=1", "token=s3cret"))
    assert "s3cret" not in str(caught.value)
    server.status = None
    fetch(server.url.replace("x=1", "token=s3cret"))
    assert "pdparams?***" in "".join(_Formatter().format(record) for record in log_lines.records)
    for url in ("https://me:s3cret@x.org/a.pdparams", "http://me:s3cret@x.org/a.pdparams?key=s3cret",
                "https://x.org/a?key=s3cret#sha256=1"):  # fmt: skip
        assert problem_of(url) is not None
        assert "s3cret" not in str(problem_of(url))


def test_a_server_that_hardly_sends_anything_is_given_up(server, monkeypatch):
    monkeypatch.setattr(download_module, "_WINDOW", 0.0)
    monkeypatch.setattr(download_module, "_SLOWEST", 1e15)
    with pytest.raises(
        ValueError, match=r"the server sent [\d,]+ bytes in \d+ s, too slow; giving up\)\. Try again: it resumes"
    ):
        fetch(server.url)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "see https://a.org/x?y=1#z, or 'https://u:p@b.org/?q'",
            "see https://a.org/x?***#z, or 'https://***@b.org/?***'",
        ),
        ("no address? me@x.org", "no address? me@x.org"),
        ("https://a.org/b/c.pdparams", "https://a.org/b/c.pdparams"),
    ],
)
def test_only_the_secret_parts_are_hidden(text, shown):
    assert without_secrets(text) == shown
