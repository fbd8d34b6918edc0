"""What comes from files is shown, not obeyed."""

from __future__ import annotations

import os

import pytest
from conftest import jpeg, picture

from ppfacerec.cli import main
from ppfacerec.core import log
from ppfacerec.core.printable import printable
from ppfacerec.data.datasets.base import FolderDataset
from ppfacerec.data.loading.bad_images import BadImage, BadImages
from ppfacerec.datatools.convert import convert
from ppfacerec.datatools.doctor.findings import as_json, as_table, finding

CLEAR_SCREEN, RIGHT_TO_LEFT, FORGED = "\x1b[2J", "\u202e", "\n[2026/01/01 00:00:00] ppfacerec INFO: accuracy 1.0"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("anna \u00e9 \u738b\u83f2 \U0001f600 \u06cc\u200c\u0627", None),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("invoice\u202egpj.exe", r"invoice\u202egpj.exe"),
        ("\u2066\u200f\u2028\ufeff\u00ad", r"\u2066\u200f\u2028\ufeff\xad"),
        ("\udc80.jpg", r"\udc80.jpg"),
        (r"a\x1b", None),
    ],
)
def test_only_what_a_terminal_obeys_or_a_reader_cannot_see_is_written_out(text, shown):
    assert printable(text) == (text if shown is None else shown)


def test_no_log_line_moves_the_cursor_or_pretends_to_be_another(tmp_path, capsys):
    log.setup_logging()
    log.log_to_file(tmp_path / "run.log")
    log.logger.info("image %s is bad", f"{CLEAR_SCREEN}{RIGHT_TO_LEFT}{FORGED}\udcff")
    for text in (capsys.readouterr().out, (tmp_path / "run.log").read_text(encoding="utf-8")):
        assert CLEAR_SCREEN not in text and RIGHT_TO_LEFT not in text
        assert r"image \x1b[2J\u202e" in text and r"accuracy 1.0\udcff" in text
        assert [line.startswith("[20") for line in text.splitlines()] == [True, False]


def test_a_table_and_the_doctors_findings_keep_to_their_lines():
    assert "\x1b" not in log.table(["person"], [[f"anna{CLEAR_SCREEN}{FORGED}"]])
    assert len(log.table(["person"], [[f"anna{FORGED}"]]).splitlines()) == 3
    found = [finding("check", "error", f"bad {CLEAR_SCREEN}", [f"a{RIGHT_TO_LEFT}{FORGED}"])]
    for text in (as_table(found), as_json(found)):
        assert CLEAR_SCREEN not in text and RIGHT_TO_LEFT not in text and FORGED not in text


def test_the_list_of_bad_images_has_a_line_each(tmp_path):
    images = BadImages("skip", 10, tmp_path / "bad_images.txt")
    images.note([BadImage(0, f"a{FORGED}{CLEAR_SCREEN}"), BadImage(1, "b")])
    assert (tmp_path / "bad_images.txt").read_text() == "a" + FORGED.replace("\n", r"\n") + r"\x1b[2J" + "\nb\n"


@pytest.mark.parametrize("name", ["anna\x1b[2J", "bo\u202e", b"caf\xe9", "li\nne"])
def test_folders_of_any_name_are_read_and_shown_safely(tmp_path, capsys, name):
    folder = tmp_path / "faces" / os.fsdecode(name)
    folder.mkdir(parents=True)
    for number in range(2):
        (folder / f"{number}.jpg").write_bytes(jpeg(picture(0, number)))
    dataset = FolderDataset(str(tmp_path / "faces"))
    assert dataset.read(0) == (folder / "0.jpg").read_bytes()
    assert printable(dataset.where(0)) == dataset.where(0)
    (folder / "1.jpg").write_bytes(b"no image")
    assert main(["doctor", str(tmp_path / "faces")]) == 1
    text = capsys.readouterr().out
    assert "does not decode as an image" in text
    assert printable(text, keep="\n") == text
    if name in (b"caf\xe9", "li\nne"):
        with pytest.raises(ValueError, match="a label file cannot hold a name"):
            convert(str(tmp_path / "faces"), str(tmp_path / "label.txt"))
