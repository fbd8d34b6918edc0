"""Laws of label.txt reading, and what a user is told of a bad line."""

from __future__ import annotations

import numpy as np
import pytest

from ppfacerec.data.datasets import label_file
from ppfacerec.data.datasets.label_file import LabelFile


def read(tmp_path, text, **options):
    path = tmp_path / "label.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return LabelFile(path, **options)


def message(tmp_path, text, **options):
    with pytest.raises(ValueError, match=r"label\.txt") as caught:
        read(tmp_path, text, **options)
    return str(caught.value).replace(str(tmp_path) + "/", "")


def samples(file):
    return [(file.name(i), int(file.labels[i])) for i in range(len(file))]


EXPECTED = [("images/a.jpg", 0), ("images/b.JPG", 12), ("c.png", 3)]


@pytest.mark.parametrize(
    "text",
    [
        "images/a.jpg\t0\nimages/b.JPG\t12\nc.png\t3\n",
        "images/a.jpg\t0\nimages/b.JPG\t12\nc.png\t3",
        "images/a.jpg\t0\r\nimages/b.JPG\t12\r\nc.png\t3\r\n",
        "images/a.jpg 0\nimages/b.JPG   12\nc.png 3",
        "\n\nimages/a.jpg\t0 \n  \nimages/b.JPG\t 12\nc.png\t3\t\n\n",
    ],
    ids=["plain", "no final newline", "CRLF", "spaces", "blanks"],
)
def test_every_form_reads_the_same(tmp_path, text):
    assert samples(read(tmp_path, text)) == EXPECTED


def test_paths_may_have_spaces_and_any_script(tmp_path):
    assert samples(read(tmp_path, "my faces/张 三.jpg\t4\n")) == [("my faces/张 三.jpg", 4)]


def test_lines_without_an_image_are_left_out_and_counted(tmp_path):
    file = read(tmp_path, "a.jpg\t0\n.DS_Store\t0\nThumbs.db\t1\nb.jpeg\t2\n")
    assert samples(file) == [("a.jpg", 0), ("b.jpeg", 2)]
    assert file.num_skipped == 2
    assert file.where(1).endswith("label.txt, line 4 (b.jpeg)")


def test_vectorized_reading_equals_a_loop_over_lines(tmp_path):
    rng = np.random.default_rng(0)
    pairs = [(f"images/{rng.integers(10 ** rng.integers(1, 9))}.jpg", int(rng.integers(10**6))) for _ in range(3000)]
    assert samples(read(tmp_path, "".join(f"{n}\t{k}\n" for n, k in pairs))) == pairs


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_chunks_do_not_show(tmp_path, monkeypatch, chunk):
    text = "\n\r\nimages/a.jpg\t0\r\nnotes.txt\t1\n   \nimages/with a space and a long name.JPG\t12\n\nc.png\t3"
    monkeypatch.setattr(label_file, "_CHUNK", chunk)
    file = read(tmp_path, text)
    assert samples(file) == [("images/a.jpg", 0), ("images/with a space and a long name.JPG", 12), ("c.png", 3)]
    assert file.lines.tolist() == [3, 6, 8]
    assert file.num_skipped == 1


@pytest.mark.parametrize("path", ["/etc/x.jpg", "../x.jpg", "a/../../x.jpg", "images/.."])
def test_a_path_that_leaves_the_image_folder_is_refused(tmp_path, path):
    text = f"a.jpg\t0\nb..c/..d/e...jpg\t0\n{path}{'' if path.endswith('jpg') else '/x.jpg'}\t1\n"
    assert "line 3: the path '" in message(tmp_path, text)
    assert "leaves the image folder. Write paths relative to it, or set allow_outside: True" in message(tmp_path, text)
    assert len(read(tmp_path, text, allow_outside=True)) == 3


def test_a_path_that_is_no_utf8_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"line 2: b'\\xff\.jpg\\t0' is not UTF-8 \(invalid start byte\)\."):
        read(tmp_path, b"a.jpg\t0\n\xff.jpg\t0\n")


def test_a_missing_label_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no\.txt: cannot read the label file \(No such file or directory\)\."):
        LabelFile(tmp_path / "no.txt")


def test_num_classes_is_the_largest_label_plus_one(tmp_path):
    assert read(tmp_path, "a.jpg\t0\nb.jpg\t41\n").num_classes == 42


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("", {}, "label.txt: no lines found. Expected lines such as 'images/00000001.jpg<TAB>0'."),
        (
            "a.jpg\t0\nb.jpg 1\n",
            {},
            "label.txt, line 2: expected 'path'\\t'class', found 'b.jpg 1'. The line has ' '; set `delimiter` to it.",
        ),
        (
            "a.jpg 0\n",
            {"delimiter": "\t"},
            "label.txt, line 1: expected 'path'\\t'class', found 'a.jpg 0'. The line has ' '; set `delimiter` to it.",
        ),
        ("a.jpg\n", {}, "label.txt, line 1: expected 'path' 'class', found 'a.jpg'."),
        ("a.jpg\t0\n\nb.jpg\tx1\n", {}, "label.txt, line 3: expected a class number 0, 1, 2, ..., found 'x1'."),
        ("a.jpg\t-1\n", {}, "label.txt, line 1: expected a class number 0, 1, 2, ..., found '-1'."),
        ("a.jpg\t99999999999\n", {}, "label.txt, line 1: expected a class number 0, 1, 2, ..., found '99999999999'."),
        (
            "a.jpg\t0\nb.jpg\t5\n",
            {"class_num": 5},
            "label.txt, line 2: label 5 is out of range for class_num 5; the file's labels need Arch.Head.class_num: 6, "
            "or relabel: True if they have gaps or start at 1.",
        ),
        (
            "x.txt\t0\n",
            {},
            "label.txt: none of its 1 lines names an image ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.webp', '.heic', '.heif').",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, options, expected):
    assert message(tmp_path, text, **options) == expected


def test_an_odd_delimiter_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a tab, a space, a comma or a semicolon, got '::'"):
        read(tmp_path, "a.jpg::0\n", delimiter="::")
