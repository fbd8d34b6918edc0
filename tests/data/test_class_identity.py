"""Laws of class identity: it changes exactly when a class becomes somebody else, and says who."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import jpeg, picture

from ppfacerec.data.datasets.base import FolderDataset, ImageNetDataset, class_identity_of, class_name
from ppfacerec.data.datasets.class_identity import ClassIdentity, hash_texts
from ppfacerec.data.datasets.record_dataset import RecordIODataset
from ppfacerec.data.datasets.synthetic_dataset import SyntheticDataset
from ppfacerec.data.datasets.train_datasets import ConcatDataset
from ppfacerec.datatools.record_writer import write_records

SAMPLES = [("anna/1.jpg", 0), ("anna/2.jpg", 0), ("bo/1.jpg", 1), ("bo/2.jpg", 1), ("cy/1.jpg", 2)]


def listed(tmp_path, samples, **options) -> ImageNetDataset:
    (tmp_path / "label.txt").write_text("".join(f"{name}\t{label}\n" for name, label in samples))
    return ImageNetDataset(str(tmp_path), str(tmp_path / "label.txt"), **options)


def identity(tmp_path, samples, **options) -> ClassIdentity:
    return listed(tmp_path, samples, **options).class_identity()


def test_the_same_file_is_the_same_and_where_it_lies_does_not_matter(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    first, again = identity(tmp_path, SAMPLES), identity(tmp_path / "elsewhere", SAMPLES)
    assert (first.digest, first.samples) == (again.digest, again.samples)
    assert first.difference(again) == ""
    assert len(first.digest) == 64


def test_reordered_lines_are_the_same_people_but_other_samples(tmp_path):
    first, reordered = identity(tmp_path, SAMPLES), identity(tmp_path, SAMPLES[::-1])
    assert first.digest == reordered.digest
    assert first.samples != reordered.samples
    assert first.difference(reordered) == ""


@pytest.mark.parametrize(
    ("new_labels", "words"),
    [
        ({0: 1, 1: 2, 2: 0}, "3 of 3 classes are other identities (3 of them had another number)"),
        ({0: 1, 1: 0, 2: 2}, "2 of 3 classes are other identities (2 of them had another number)"),
        (
            {0: 0, 1: 1, 2: 5},
            "there were 3 classes and now there are 6; 1 of 3 classes are other identities (0 of them had another",
        ),
    ],
    ids=["rotated", "swapped at equal counts", "renumbered"],
)
def test_other_people_in_a_class_are_told(tmp_path, new_labels, words):
    before = identity(tmp_path, SAMPLES)
    now = listed(tmp_path, [(name, new_labels[label]) for name, label in SAMPLES])
    difference = before.difference(now.class_identity(), lambda label: class_name(now, label))
    assert difference.startswith(words)
    assert now.class_identity().digest != before.digest
    if new_labels[0] == 1:
        label = new_labels.get(1)
        assert f"class {label} (" in difference
        assert "(bo/1.jpg)) was class 1" in difference


def test_an_image_that_changes_its_class_changes_both(tmp_path):
    before = identity(tmp_path, SAMPLES)
    moved = identity(tmp_path, [*SAMPLES[:2], ("bo/1.jpg", 0), *SAMPLES[3:]])
    assert np.flatnonzero(before.classes != moved.classes).tolist() == [0, 1]


def test_relabelled_gaps_are_the_same_people(tmp_path):
    gaps = identity(tmp_path, [(name, 10 * label) for name, label in SAMPLES], relabel=True)
    assert gaps.digest == identity(tmp_path, SAMPLES).digest


@pytest.fixture
def folders(tmp_path):
    for k, name in enumerate(("anna", "bo", "cy")):
        (tmp_path / "people" / name).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "people" / name / f"{number}.jpg").write_bytes(jpeg(picture(k, number)))
    return tmp_path / "people"


def test_folders_are_people_by_name_whatever_images_they_have(folders):
    before = FolderDataset(str(folders)).class_identity()
    (folders / "bo" / "9.jpg").write_bytes(jpeg(picture(1, 9)))
    more = FolderDataset(str(folders)).class_identity()
    assert more.digest == before.digest
    assert more.samples != before.samples
    (folders / "bo").rename(folders / "dora")
    now = FolderDataset(str(folders))
    words = before.difference(now.class_identity(), lambda label: class_name(now, label))
    assert words == (
        "2 of 3 classes are other identities (1 of them had another number): "
        "class 1 (cy) was class 2, class 2 (dora) is new or has other images"
    )


def test_records_of_swapped_people_at_equal_counts_are_others(tmp_path):
    found = []
    for order in ((0, 1), (0, 1), (1, 0)):
        samples = [(label, jpeg(picture(who, number))) for label, who in enumerate(order) for number in range(3)]
        write_records(tmp_path / "train.rec", samples)
        found.append(RecordIODataset(str(tmp_path)).class_identity())
    assert found[0].digest == found[1].digest
    assert found[0].samples == found[1].samples
    assert "2 of 2 classes are other identities (2 of them had another number)" in found[0].difference(found[2])


def test_joined_sets_are_their_parts(folders, tmp_path):
    parts = [{"name": "FolderDataset", "root": str(folders)}, {"name": "SyntheticDataset", "num_images": 8,
             "num_identities": 4}]  # fmt: skip
    whole, turned = (ConcatDataset(p).class_identity() for p in (parts, parts[::-1]))
    own = [FolderDataset(str(folders)).class_identity(), SyntheticDataset(8, 4).class_identity()]
    assert whole.classes.tolist() == [*own[0].classes, *own[1].classes]
    assert whole.digest != turned.digest
    assert len(set(whole.classes.tolist())) == 7


def test_a_data_set_of_a_users_own_is_known_by_what_it_says_of_its_samples():
    class Own:
        labels, num_classes = np.array([0, 1]), 2

        def __init__(self, names):
            self.where = names.__getitem__

        def __len__(self):
            return 2

    first, turned = class_identity_of(Own(["a", "b"])), class_identity_of(Own(["b", "a"]))
    assert first.difference(turned).startswith("2 of 2 classes are other identities (2 of them")


@pytest.mark.parametrize("length", [1, 3, 7, 8, 9, 40])
def test_hashes_depend_on_the_text_alone(length):
    rng = np.random.default_rng(length)
    texts = [rng.integers(0, 256, rng.integers(0, length + 1), np.uint8) for _ in range(200)]
    lengths = np.array([len(text) for text in texts])
    straight = hash_texts(np.concatenate(texts), np.cumsum(lengths) - lengths, lengths)
    turned = hash_texts(np.concatenate(texts[::-1]), (np.cumsum(lengths[::-1]) - lengths[::-1]), lengths[::-1])
    np.testing.assert_array_equal(straight, turned[::-1])
    assert len(set(straight.tolist())) == len({text.tobytes() for text in texts})
