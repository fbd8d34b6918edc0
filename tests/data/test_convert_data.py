"""Laws of conversion: bytes stay bytes, twice is once, and what is half done goes on."""

from __future__ import annotations

import pickle
import re

import cv2
import numpy as np
import pytest
from conftest import jpeg, picture

from ppfacerec.cli import main
from ppfacerec.data.datasets.base import FolderDataset, ImageNetDataset
from ppfacerec.data.datasets.record_dataset import RecordIODataset
from ppfacerec.data.pairs.eval_datasets import FaceEvalDataset
from ppfacerec.data.pairs.pair_bin import read_bin
from ppfacerec.data.transforms import images as decoding
from ppfacerec.datatools.convert import convert
from ppfacerec.datatools.make_bin import bin_from_folder, bin_from_pairs


@pytest.fixture
def people(tmp_path):
    root = tmp_path / "people"
    for k, count in enumerate([4, 3, 5, 2, 1, 3, 4, 2]):
        (root / f"person{k}").mkdir(parents=True)
        for number in range(count):
            (root / f"person{k}" / f"person{k}_{number + 1:04d}.jpg").write_bytes(jpeg(picture(k, number)))
    return root


def contents(dataset):
    return [(int(dataset.labels[i]), dataset.read(i)) for i in range(len(dataset))]


def test_there_and_back_every_byte_is_the_same(people, tmp_path):
    before = contents(FolderDataset(str(people)))
    label_file, names = convert(str(people), str(tmp_path / "label.txt"))
    assert names.read_text().splitlines()[2] == "2\tperson2"
    assert contents(ImageNetDataset(str(people), str(label_file))) == before
    convert(str(label_file), str(tmp_path / "a" / "train.rec"), image_root=str(people))
    convert(str(people), str(tmp_path / "b" / "train.rec"))
    for name in ("train.rec", "train.idx", "property"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert contents(RecordIODataset(str(tmp_path / "a"))) == before
    convert(str(tmp_path / "a" / "train.rec"), str(tmp_path / "back"))
    assert contents(ImageNetDataset(str(tmp_path / "back"), str(tmp_path / "back" / "label.txt"))) == before


def test_a_label_file_in_any_order_becomes_a_record_file_by_label(tmp_path, tiny_data):
    lines = (tiny_data / "label.txt").read_text().splitlines()
    (tmp_path / "label.txt").write_text("\n".join(reversed(lines)))
    convert(str(tmp_path / "label.txt"), str(tmp_path / "train.rec"), image_root=str(tiny_data))
    labels = RecordIODataset(str(tmp_path)).labels
    assert labels.tolist() == sorted(labels)


def test_an_interrupted_conversion_goes_on(people, tmp_path, monkeypatch):
    convert(str(people), str(tmp_path / "train.rec"))
    out, reads = tmp_path / "out", []
    original = RecordIODataset.read

    def stopping(self, index):
        reads.append(index)
        if len(reads) == 10:
            raise KeyboardInterrupt
        return original(self, index)

    monkeypatch.setattr(RecordIODataset, "read", stopping)
    with pytest.raises(KeyboardInterrupt):
        convert(str(tmp_path / "train.rec"), str(out))
    assert not (out / "label.txt").exists()
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.jpg")}
    assert len(times) == 9
    convert(str(tmp_path / "train.rec"), str(out))
    assert len(list(out.rglob("*"))) == 1 + 1 + 8 + 24  # label.txt, images, identities, images
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_a_failed_conversion_leaves_what_was_there(people, tmp_path):
    convert(str(people), str(tmp_path / "train.rec"))
    before = (tmp_path / "train.rec").read_bytes()
    (tmp_path / "label.txt").write_text("a.jpg\t0\n")
    with pytest.raises(ValueError, match=r"label\.txt, line 1 \(a\.jpg\): cannot read"):
        convert(str(tmp_path / "label.txt"), str(tmp_path / "train.rec"))
    assert (tmp_path / "train.rec").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["label.txt", "people", "property", "train.idx", "train.rec"]


def test_a_bin_becomes_a_folder_that_evaluates_the_same(tiny_data, tmp_path):
    before = read_bin(tiny_data / "lfw.bin")
    convert(str(tiny_data / "lfw.bin"), str(tmp_path))
    pairs = FaceEvalDataset(str(tmp_path), str(tmp_path / "pairs.txt")).open("pairs")
    np.testing.assert_array_equal(pairs.is_same, before.is_same)
    assert [pairs.read(i) for i in pairs.index] == [before.images[i] for i in before.index]
    assert bin_from_pairs(str(tmp_path / "pairs.txt"), str(tmp_path), str(tmp_path / "again.bin")) == 20
    again = read_bin(tmp_path / "again.bin")
    assert again.images == before.images
    np.testing.assert_array_equal(again.index, before.index)


@pytest.mark.parametrize("names", [("people", "x.bin"), ("people", "folder"), ("no", "x.rec")])
def test_what_cannot_be_converted_is_told(people, tmp_path, names):
    with pytest.raises(ValueError, match=r"Cannot convert .* Supported: x\.rec to a folder|no does not exist"):
        convert(*(str(tmp_path / name) for name in names))


def test_a_name_with_a_tab_cannot_be_listed(people, tmp_path):
    (people / "person1" / "a\tb.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="a label file cannot hold a name with a tab or line break"):
        convert(str(people), str(tmp_path / "label.txt"))
    assert not (tmp_path / "label.txt").exists()


def test_a_record_that_is_no_image_is_named(tmp_path):
    from ppfacerec.datatools.record_writer import write_records

    write_records(tmp_path / "train.rec", [(0, b"not an image")])
    with pytest.raises(ValueError, match=r"record 1 \(byte 40\): 12 bytes that start with b'not an i' are not a JPEG"):
        convert(str(tmp_path / "train.rec"), str(tmp_path / "out"))


def test_drawn_pairs_are_balanced_and_no_person_is_in_two_folds(people, tmp_path):
    who = {dataset_image: label for label, dataset_image in contents(FolderDataset(str(people)))}
    assert bin_from_folder(str(people), str(tmp_path / "x.bin"), num_pairs=12, num_folds=3) == 12
    with open(tmp_path / "x.bin", "rb") as file:
        images, is_same = pickle.load(file, encoding="bytes")  # as insightface reads it
    assert is_same == [True, False] * 6
    for num_folds in (2, 3, 4, 5, 6):  # any contiguous cut
        assert all(abs(2 * sum(fold) - len(fold)) <= 1 for fold in np.array_split(is_same, num_folds))
    assert all(type(image) is bytes for image in images)
    assert all(type(same) is bool for same in is_same)
    folds = [{who[image] for image in images[8 * f : 8 * f + 8]} for f in range(3)]
    assert not folds[0] & folds[1] and not folds[0] & folds[2] and not folds[1] & folds[2]
    for i, same in enumerate(is_same):
        left, right = images[2 * i : 2 * i + 2]
        assert left != right
        assert (who[left] == who[right]) == same
    assert len({frozenset(images[2 * i : 2 * i + 2]) for i in range(12)}) == 12


def test_pairs_are_drawn_by_seed(people, tmp_path):
    drawn = []
    for seed in (1, 1, 2):
        bin_from_folder(str(people), str(tmp_path / "x.bin"), 12, 3, seed)
        drawn.append((tmp_path / "x.bin").read_bytes())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    ("num_pairs", "folds", "expected"),
    [
        (13, 3, "--num-pairs: expected a multiple of 2 x 3 folds, found 13."),
        (
            600,
            3,
            "people: its 8 people (7 with two images) do not make 600 pairs in 3 folds without a common person. "
            "The largest that work: --folds 3 with --num-pairs up to 42.",
        ),
        (
            16,
            8,
            "do not make 16 pairs in 8 folds without a common person. "
            "The largest that work: --folds 4 with --num-pairs up to 8, or --folds 3 with --num-pairs up to 42.",
        ),
    ],
)
def test_too_few_people_are_told(people, tmp_path, num_pairs, folds, expected):
    with pytest.raises(ValueError) as caught:
        bin_from_folder(str(people), str(tmp_path / "x.bin"), num_pairs, folds)
    assert expected in str(caught.value)
    assert not (tmp_path / "x.bin").exists()
    for folds, pairs in re.findall(r"--folds (\d+) with --num-pairs up to (\d+)", str(caught.value)):
        assert bin_from_folder(str(people), str(tmp_path / "x.bin"), int(pairs), int(folds)) == int(pairs)


def test_lfws_pairs_make_a_bin(people, tmp_path, log_lines):
    (tmp_path / "pairs.txt").write_text(
        "1\t2\nperson0\t1\t2\nperson1\t1\t3\nperson0\t1\tperson1\t1\nperson2\t1\tperson3\t2\n"
    )
    assert bin_from_pairs(str(tmp_path / "pairs.txt"), str(people), str(tmp_path / "x.bin")) == 4
    made = read_bin(tmp_path / "x.bin")
    assert made.is_same.tolist() == [True, True, False, False]
    assert made.images[made.index[7]] == (people / "person3" / "person3_0002.jpg").read_bytes()


def test_a_pair_that_does_not_decode_or_is_of_another_size_is_told(people, tmp_path, log_lines):
    (people / "person0" / "large.jpg").write_bytes(jpeg(picture(0, 9, size=150)))
    (tmp_path / "pairs.txt").write_text("person0/large.jpg person1/person1_0001.jpg 0\n")
    bin_from_pairs(str(tmp_path / "pairs.txt"), str(people), str(tmp_path / "x.bin"))
    assert "150 x 150; evaluation resizes what is not 112 x 112" in log_lines.text
    (people / "person0" / "large.jpg").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"pairs\.txt, line 1 \(person0/large\.jpg\) does not decode"):
        bin_from_pairs(str(tmp_path / "pairs.txt"), str(people), str(tmp_path / "x.bin"))


def test_make_bin_says_what_it_leaves_out_and_refuses_what_evaluation_would(tmp_path, capsys):
    root = tmp_path / "people"
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/deep/3.jpg", "stray.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpeg(picture(len(name), 0)))
    (root / "empty").mkdir()
    (root / "b" / "x.tiff").write_bytes(b"")
    command = ["make-bin", "--root", str(root), "--out", str(tmp_path / "x.bin"), "--num-pairs", "2", "--folds", "1"]
    assert main(command) == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in ("2 images that are not directly in a person's folder (first: b/deep/3.jpg)", "1 .tiff", "(empty)"):
        assert part in text
    (root / "a" / "1.jpg").write_bytes(cv2.imencode(".png", np.zeros((1, 200_000), np.uint8))[1].tobytes())
    assert main(command) == 1
    assert "200000 x 1 pixels are too elongated" in capsys.readouterr().out


def test_heic_photos_are_png_in_a_bin_and_a_record_file(people, tmp_path, monkeypatch):
    """Other programs read no HEIC there; the decoder is a stand-in, as its package cannot write."""
    pixels = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    monkeypatch.setattr(decoding, "_decode_heif", lambda data, where: pixels)
    for path in sorted(people.rglob("*.jpg")):
        path.with_suffix(".heic").write_bytes(b"\0\0\0\x1cftypheic" + b"\0" * 16)
        path.unlink()
    bin_from_folder(str(people), str(tmp_path / "x.bin"), num_pairs=12, num_folds=3)
    convert(str(people), str(tmp_path / "x.rec"))
    records = RecordIODataset(str(tmp_path), "x")
    for written in [*read_bin(tmp_path / "x.bin").images, *(records.read(i) for i in range(len(records)))]:
        assert written.startswith(b"\x89PNG")
        assert (decoding.decode_rgb(written, "x") == pixels).all()
