"""Laws of the training sets: labels, names, and sets joined."""

from __future__ import annotations

import os

import numpy as np
import pytest
from conftest import jpeg, picture

from ppfacerec.core.registry import Spec
from ppfacerec.data.datasets.base import FolderDataset, ImageNetDataset, gap_hint
from ppfacerec.data.datasets.record_dataset import RecordIODataset
from ppfacerec.data.datasets.synthetic_dataset import SyntheticDataset
from ppfacerec.data.datasets.train_datasets import ConcatDataset, source_of
from ppfacerec.data.transforms.images import decode_rgb
from ppfacerec.datatools.record_writer import write_records


@pytest.fixture
def people(tmp_path):
    """Three people, one without an image, and files that are none."""
    for name, count in (("bo", 2), ("anna", 3), ("empty", 0), ("张三", 1)):
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / f"{number}.JPG").write_bytes(jpeg(picture(len(name), number)))
    (tmp_path / "bo" / ".DS_Store").write_bytes(b"")
    (tmp_path / "readme.txt").write_bytes(b"")
    return tmp_path


def test_folders_are_identities_by_name(people):
    dataset = FolderDataset(str(people))
    assert dataset.identities == ["anna", "bo", "张三"]
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 2]
    assert [dataset.name(i) for i in range(6)] == [
        "anna/0.JPG",
        "anna/1.JPG",
        "anna/2.JPG",
        "bo/0.JPG",
        "bo/1.JPG",
        "张三/0.JPG",
    ]
    assert dataset.read(4) == (people / "bo" / "1.JPG").read_bytes()
    assert dataset.where(5) == f"{people}/张三/0.JPG"
    text = "1 files that are not read as images (1 .txt; first: readme.txt) and 1 folders without an image (empty)"
    assert dataset.left_out == text


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no image in it. Expected one subfolder of images per identity"):
        FolderDataset(str(tmp_path))


def test_more_classes_than_the_head_has_are_refused(people):
    with pytest.raises(
        ValueError, match=r"has 3 classes, but Arch\.Head\.class_num is 2; set it to 3, or leave it out"
    ):
        FolderDataset(str(people), class_num=2)
    assert FolderDataset(str(people), class_num=10).num_classes == 3


def test_relabel_numbers_the_classes_by_their_order(tmp_path):
    (tmp_path / "label.txt").write_text("a.jpg\t70\nb.jpg\t5\nc.jpg\t70\nd.jpg\t900\n")
    dataset = ImageNetDataset(str(tmp_path), str(tmp_path / "label.txt"), relabel=True, class_num=3)
    assert dataset.labels.tolist() == [1, 0, 1, 2]
    assert dataset.labels.dtype == np.int32
    assert dataset.original_labels.tolist() == [5, 70, 900]
    with pytest.raises(ValueError, match="has 3 classes"):
        ImageNetDataset(str(tmp_path), str(tmp_path / "label.txt"), relabel=True, class_num=2)


def test_joined_sets_have_labels_of_their_own(people, tiny_data):
    specs = [
        {"name": "FolderDataset", "root": str(people)},
        {"name": "SyntheticDataset", "num_images": 7, "num_identities": 4},
        {"name": "ImageNetDataset", "image_root": str(tiny_data), "cls_label_path": str(tiny_data / "label.txt")},
    ]
    joined = ConcatDataset(specs)
    parts = [FolderDataset(str(people)), SyntheticDataset(7, 4),
             ImageNetDataset(str(tiny_data), str(tiny_data / "label.txt"))]  # fmt: skip
    assert joined.num_classes == 3 + 4 + 5
    assert len(joined) == 6 + 7 + 20
    index = 0
    for part, offset in zip(parts, (0, 3, 7)):
        for own in range(len(part)):
            assert joined.labels[index] == part.labels[own] + offset
            assert joined.read(index) == part.read(own)
            assert joined.where(index) == part.where(own)
            index += 1
    with pytest.raises(ValueError, match="ConcatDataset has 12 classes"):
        ConcatDataset(specs, class_num=11)


def test_synthetic_faces_decode_and_repeat():
    dataset, again = SyntheticDataset(200, 50), SyntheticDataset(200, 50)
    assert decode_rgb(dataset.read(150), "test").shape == (112, 112, 3)
    assert dataset.read(70) == again.read(70)
    assert np.bincount(dataset.labels).tolist() == [4] * 50
    assert 3000 < np.mean([len(dataset.read(i)) for i in range(64)]) < 9000
    with pytest.raises(ValueError, match=r"num_identities: expected 1 to num_images \(5\), got 6"):
        SyntheticDataset(5, 6)


@pytest.mark.parametrize(
    ("labels", "hint"),
    [
        ([0, 1, 2], ""),
        ([1, 2, 3], "1 of the classes 0 to 3 have no image (they start at 1), but each has a class centre."),
        ([0, 1000, 2000], "1,998 of the classes 0 to 2,000 have no image (there are gaps between them)"),
        ([0, 2_000_000_000], "1,999,999,999 of the classes 0 to 2,000,000,000 have no image"),
    ],
)
def test_classes_without_an_image_are_told_with_relabel(labels, hint):
    found = gap_hint(np.array(labels), max(labels) + 1)
    assert found.startswith(hint)
    assert bool(found) == bool(hint)


def test_backslashes_in_a_label_file_are_hinted_at(tmp_path):
    (tmp_path / "label.txt").write_text("images\\a.jpg\t0\n")
    with pytest.raises(ValueError, match=r"It has backslashes: write paths with '/'\."):
        ImageNetDataset(str(tmp_path), str(tmp_path / "label.txt")).read(0)


@pytest.mark.parametrize("name", ["train.rec", "train.idx"])
def test_pipes_as_record_files_are_refused_and_do_not_hang(tmp_path, name):
    write_records(tmp_path / "train.rec", [(0, b"image")])
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} is not a regular file"):
        RecordIODataset(str(tmp_path))


def test_every_set_says_where_it_comes_from():
    folder = Spec("FolderDataset", {"root": "faces"})
    labels = Spec("ImageNetDataset", {"image_root": "x", "cls_label_path": "x/label.txt"})
    both = Spec("ConcatDataset", {"datasets": [{"name": spec.name, **spec.kwargs} for spec in (folder, labels)]})
    assert source_of(folder) == "FolderDataset (root: faces)"
    assert source_of(labels) == "x/label.txt"
    assert source_of(both) == "FolderDataset (root: faces); x/label.txt"
    assert source_of(Spec("SyntheticDataset")) == "SyntheticDataset"
