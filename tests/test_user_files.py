"""What a person names is read by one rule: no pipes, no leftovers of programs, one spelling a person."""

from __future__ import annotations

import os
import unicodedata

import pytest
from conftest import jpeg, picture

from ppfacerec.core.io.user_files import open_regular, read_regular, walk_images
from ppfacerec.data.datasets.base import FolderDataset


def test_a_pipe_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    for read in (open_regular, read_regular):
        for path in (tmp_path / "a.jpg", "/dev/zero"):
            with pytest.raises(ValueError, match=r"is not a regular file \(a device or a pipe\)"):
                read(path)
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)


@pytest.mark.parametrize("size", [0, 1, (1 << 16) - 1, 1 << 16, 200_001])
def test_a_file_is_read_whole(tmp_path, size):
    (tmp_path / "f").write_bytes(content := os.urandom(size))
    assert read_regular(tmp_path / "f") == content


def test_a_walk_says_what_is_no_image_and_passes_over_what_programs_leave(tmp_path):
    for name in ("b/2.JFIF", "b/1.jpg", "a/x.tiff", ".ipynb_checkpoints/1.jpg", "b/@eaDir/1.jpg", "__MACOSX/c/1.jpg",
                 "b/._1.jpg", "notes.txt", "b/deep/3.heic", "@Recycle/1.jpg", "b/2.jpe"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    os.symlink("gone.jpg", tmp_path / "b" / "link.jpg")
    os.symlink("..", tmp_path / "b" / "loop")
    found = walk_images(tmp_path)
    assert found.images == ["b/1.jpg", "b/2.JFIF", "b/2.jpe", "b/deep/3.heic"]
    assert sorted(found.others) == ["a/x.tiff", "b/link.jpg", "notes.txt"]
    assert found.left_out() == (
        "3 files that are not read as images (1 .tiff, 1 .jpg, 1 .txt; first: a/x.tiff) and 1 folders without an image (a)"
    )
    found.empty.extend("bcdefg")
    assert found.left_out().endswith("7 folders without an image (a, b, c, d, e and 2 more)")


def test_a_name_in_both_of_unicodes_spellings_is_one_person(tmp_path):
    for form in ("NFC", "NFD"):
        folder = tmp_path / unicodedata.normalize(form, "José")
        folder.mkdir()
        (folder / f"{form}.jpg").write_bytes(jpeg(picture(0, 0)))
    (tmp_path / "Josf").mkdir()
    (tmp_path / "Josf" / "1.jpg").write_bytes(jpeg(picture(1, 0)))
    dataset = FolderDataset(str(tmp_path))
    assert dataset.num_classes == 2
    assert sorted(dataset.labels.tolist()) == dataset.labels.tolist()
    assert len(dataset.read(2)) > 100
