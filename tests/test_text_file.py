"""One rule for all text that people write: encodings, comments, quotes and backslashes mean the same in every list."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ppfacerec.config.yaml_file import read_yaml
from ppfacerec.data.datasets.label_file import LabelFile
from ppfacerec.data.pairs.pair_list import read_lfw_pairs, read_pair_list
from ppfacerec.datatools.align import read_landmarks
from ppfacerec.inference.image_files import find_images

POINTS = " ".join(["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"])


def label_file(path: Path, text: bytes) -> object:
    path.write_bytes(text)
    file = LabelFile(path)
    return [(file.name(i), int(file.labels[i])) for i in range(len(file))]


def pair_list(path: Path, text: bytes) -> object:
    path.write_bytes(text)
    return read_pair_list(str(path), str(path.parent)).names


def lfw_pairs(path: Path, text: bytes) -> object:
    path.write_bytes(text)
    return read_lfw_pairs(str(path), str(path.parent)).names


def landmarks(path: Path, text: bytes) -> object:
    path.write_bytes(text)
    return list(read_landmarks(str(path)))


def image_list(path: Path, text: bytes) -> object:
    path.write_bytes(text)
    return find_images([path])


def config(path: Path, text: bytes) -> object:
    path.write_bytes(text)
    return read_yaml(path)


READERS = [
    (label_file, "张三/张三_0001.jpg\t0\n#1.jpg\t1\n"),
    (pair_list, "张三/张三_0001.jpg\t#1.jpg\t0\n"),
    (lfw_pairs, "1\t1\n张三\t1\t1\n张三\t1\t张三\t1\n"),
    (landmarks, f"张三/张三_0001.jpg {POINTS}\n#1.jpg {POINTS}\n"),
    (image_list, "张三/张三_0001.jpg\n#1.jpg\n"),
    (config, "Global:\n  output_dir: 张三\n"),
]
Read = Callable[[Path, bytes], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "张三").mkdir()
    for name in ("张三/张三_0001.jpg", "#1.jpg"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(("read", "text"), READERS)
def test_every_encoding_and_line_end_reads_the_same(folder: Path, read: Read, text: str) -> None:
    path = folder / "list.txt"
    expected = read(path, text.encode())
    crlf = text.replace("\n", "\r\n")
    commented = "# a comment\n#\n\n" + text
    forms = [text.encode("utf-8-sig"), text.encode("utf-16"), crlf.encode(), crlf.encode("utf-16"), commented.encode()]
    for form in forms:
        assert read(path, form) == expected


@pytest.mark.parametrize(("read", "text"), READERS)
def test_another_encoding_is_an_error_with_its_line_and_a_hint(folder: Path, read: Read, text: str) -> None:
    for encoding, hint in (("gbk", "Read as GBK it is .*张三.*`iconv -f GBK -t UTF-8` converts it"),
                           ("utf-16-le", "as in UTF-16 without a byte order mark.*Save the file")):  # fmt: skip
        with pytest.raises(ValueError, match=rf"(?s)list\.txt, line \d: b.* is not UTF-8 .*{hint}"):
            read(folder / "list.txt", text.encode(encoding))


@pytest.mark.parametrize(("read", "text"), READERS[:-1])
def test_quotes_are_an_error_and_never_a_lost_line(folder: Path, read: Read, text: str) -> None:
    lines = text.splitlines()
    quoted = [*lines[:-1], f'"{lines[-1]}"']
    with pytest.raises(ValueError, match=rf"list\.txt, line {len(lines)}: .* begins with a quote, which would be part"):
        read(folder / "list.txt", "\n".join(quoted).encode())


@pytest.mark.parametrize(("read", "text"), READERS)
def test_a_pipe_is_refused_and_does_not_hang(folder: Path, read: Read, text: str) -> None:
    os.mkfifo(folder / "pipe.txt")
    with pytest.raises(ValueError, match=r"pipe\.txt.*(is not a regular file|does not exist)"):
        read(_Unwritten(folder / "pipe.txt"), b"")


class _Unwritten(type(Path())):  # type: ignore[misc]
    def write_bytes(self, data: bytes) -> int:  # type: ignore[override]
        return 0


def test_a_comma_and_a_backslash_are_hinted_at(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"line 1: expected 'left' 'right' '0 or 1', .* The line has ','; set `delim"):
        pair_list(folder / "list.txt", b"a.jpg,b.jpg,1\n")
    with pytest.raises(ValueError, match=r"line 1: expected 'path' 'class', .* The line has ','; set `delimiter`"):
        label_file(folder / "list.txt", b"a.jpg,1\n")
    with pytest.raises(ValueError, match=r"the image .* does not exist.* It has backslashes: write paths with '/'\."):
        pair_list(folder / "list.txt", b"a\\1.jpg a\\2.jpg 1\n")


def test_spaces_of_other_scripts_belong_to_names(tmp_path: Path) -> None:
    for name in ("张\u3000三.jpg", "\u3000b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    text = "张\u3000三.jpg \u3000b.jpg 0\n".encode()
    assert pair_list(tmp_path / "list.txt", text) == ("张\u3000三.jpg", "\u3000b.jpg")
    assert label_file(tmp_path / "list.txt", "\u3000b.jpg 0\n".encode()) == [("\u3000b.jpg", 0)]
    assert image_list(tmp_path / "list.txt", "\u3000b.jpg\n".encode()) == [tmp_path / "\u3000b.jpg"]


@pytest.mark.parametrize("text", [b"\xef\xbb\xbf", b"\xff\xfe", b"#", b"# \n#\n", b"\n\r\n"])
@pytest.mark.parametrize("read", [label_file, pair_list, lfw_pairs, landmarks, image_list])
def test_a_list_without_a_line_is_told(tmp_path: Path, read: Read, text: bytes) -> None:
    with pytest.raises(ValueError, match=r"list\.txt(:|, line 1)"):
        read(tmp_path / "list.txt", text)
