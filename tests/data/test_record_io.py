"""Laws of RecordIO: what is written is read, by the format's own rules, and damage is named with its byte."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from conftest import jpeg, picture

from ppfacerec.data.datasets.record_dataset import RecordIODataset
from ppfacerec.data.datasets.record_io import MAGIC, RecordFile, frame, pack
from ppfacerec.datatools.record_writer import write_records

LABELS = [0, 0, 0, 1, 1, 3, 3, 3, 3]  # class 2 has no image


def images():
    rng = np.random.default_rng(0)
    return [jpeg(picture(label, i)) + bytes(rng.integers(0, 256, i, np.uint8)) for i, label in enumerate(LABELS)]


@pytest.fixture
def written(tmp_path):
    write_records(tmp_path / "train.rec", zip(LABELS, images()))
    return tmp_path


def write_raw(folder, records):
    """A record file of `records` (labels, image) without insightface's announcement."""
    offsets, content = [], b""
    for key, (labels, image) in enumerate(records):
        offsets.append(f"{key}\t{len(content)}\n")
        content += frame(pack(labels, image, key))
    (folder / "train.rec").write_bytes(content)
    (folder / "train.idx").write_text("".join(offsets))


def message(folder):
    def read_all():
        dataset = RecordIODataset(str(folder))
        return [dataset.read(index) for index in range(len(dataset))]

    with pytest.raises(ValueError) as caught:
        read_all()
    return str(caught.value).replace(f"{folder}/", "")


def test_what_is_written_is_read_byte_for_byte(written):
    dataset = RecordIODataset(str(written))
    assert dataset.labels.tolist() == LABELS
    assert dataset.num_classes == 4
    assert [dataset.read(i) for i in range(len(dataset))] == images()
    assert (written / "property").read_text() == "4,112,112\n"
    assert sorted(p.name for p in written.iterdir()) == ["property", "train.idx", "train.rec"]


def test_the_bytes_are_those_of_the_format(written):
    """Record 0 by hand: magic, length 32, flag 2, label 0, ids 0, and the ends of the images and of the identities."""
    content = (written / "train.rec").read_bytes()
    assert content[:40] == struct.pack("<IIIfQQff", 0xCED7230A, 32, 2, 0.0, 0, 0, 10.0, 14.0)
    image = images()[0]
    assert content[40:72] == struct.pack("<IIIfQQ", 0xCED7230A, 24 + len(image), 0, 0.0, 1, 0)
    assert len(content) % 4 == 0


@pytest.mark.parametrize("place", [0, 4, 5, 8, 100])
def test_an_image_with_the_magic_number_in_it_is_written_in_parts(tmp_path, place):
    image = bytes(range(200)) * 2
    image = image[:place] + MAGIC + MAGIC + image[place:] + MAGIC
    write_records(tmp_path / "train.rec", [(0, image)])
    content = (tmp_path / "train.rec").read_bytes()
    aligned = [at for at in range(0, len(content), 4) if content[at : at + 4] == MAGIC]
    # Of the announcement, the image in parts (the header's 24 bytes keep the alignment), and the identity record.
    assert len(aligned) == 1 + (4 if place % 4 == 0 else 2) + 1
    for at in aligned:  # each one starts a part that ends inside the file
        assert at + 8 + (struct.unpack("<I", content[at + 4 : at + 8])[0] & (1 << 29) - 1) <= len(content)
    assert RecordIODataset(str(tmp_path)).read(0) == image


def test_a_file_without_announcement_is_read_for_its_labels(tmp_path):
    write_raw(tmp_path, [((2.0,), b"a"), ((0.0, 7.5), b"bb"), ((1.0,), b"ccc")])
    dataset = RecordIODataset(str(tmp_path))
    assert dataset.labels.tolist() == [2, 0, 1]
    assert [dataset.read(i) for i in range(3)] == [b"a", b"bb", b"ccc"]


def test_keys_may_stand_in_any_order_and_have_gaps(written):
    lines = (written / "train.idx").read_text().splitlines()
    (written / "train.idx").write_text("\n".join(reversed([line for line in lines if not line.startswith("2\t")])))
    dataset = RecordIODataset(str(written))
    assert dataset.labels.tolist() == LABELS[:1] + LABELS[2:]
    assert dataset.read(1) == images()[2]


def test_labels_that_are_no_identity_numbers_are_read_from_the_images(tmp_path):
    records = [((3.0, 4.0), b""), ((7.0,), b"a"), ((7.0,), b"b"), ((1.0, 3.0), b"")]
    write_raw(tmp_path, records)
    assert RecordIODataset(str(tmp_path)).labels.tolist() == [7, 7]


def test_images_must_come_by_ascending_label(tmp_path):
    with pytest.raises(ValueError, match="in order of label, got 0 after 1"):
        write_records(tmp_path / "train.rec", [(1, b"x"), (0, b"x")])
    assert list(tmp_path.iterdir()) == []


def test_an_image_whose_label_disagrees_is_named(tmp_path):
    write_raw(tmp_path, [((3.0, 4.0), b""), ((0.0,), b"a"), ((5.0,), b"b"), ((1.0, 3.0), b"")])
    assert message(tmp_path) == (
        "train.rec, record 2 (byte 76): its own label is 5, but the file's identity records assign it to class 0."
    )


@pytest.mark.parametrize("border", [3, 4, 5])
def test_borders_that_float32_rounds_are_put_right(tmp_path, monkeypatch, border):
    """From 2^24 on (Glint360K has more images) an identity's first and last image may be told one off."""
    images = [((float(key > 3),), b"x") for key in range(1, 7)]  # 1 to 3 are of class 0, 4 to 6 of class 1
    identities = [((1.0, float(border)), b""), ((float(border), 7.0), b"")]
    write_raw(tmp_path, [((7.0, 9.0), b""), *images, *identities])
    monkeypatch.setattr("ppfacerec.data.datasets.record_dataset.EXACT_NUMBERS", 2)
    assert RecordIODataset(str(tmp_path)).labels.tolist() == [0, 0, 0, 1, 1, 1]


def damage(path, at, content):
    data = bytearray(path.read_bytes())
    data[at : at + len(content)] = content
    path.write_bytes(bytes(data))


def test_broken_magic_is_named_with_its_byte(written):
    offset = int((written / "train.idx").read_text().splitlines()[4].split()[1])
    damage(written / "train.rec", offset, b"JUNK")
    assert message(written) == (
        f"train.rec, record 4 (byte {offset}): expected the magic number 0a23d7ce, found 4a554e4b. train.rec is damaged, "
        "or train.idx belongs to another file; get both again."
    )


def test_a_truncated_file_is_named_with_its_byte(written):
    content = (written / "train.rec").read_bytes()
    last = int((written / "train.idx").read_text().splitlines()[-1].split()[1])
    (written / "train.rec").write_bytes(content[: last - 10])
    assert message(written) == (
        f"train.idx lists record 13 at byte {last}, but train.rec has only {last - 10} bytes: it is truncated, or the two files are from different sets. Get both again."
    )
    (written / "train.rec").write_bytes(content[: last + 12])
    assert f"train.rec, record 13 (byte {last}): 32 bytes declared, 4 found; the file is truncated." in message(written)


def test_an_idx_that_disagrees_is_named(written):
    lines = (written / "train.idx").read_text().splitlines()
    lines[3] = "3\t44"
    (written / "train.idx").write_text("\n".join(lines))
    assert "train.rec, record 3 (byte 44): expected the magic number 0a23d7ce, found" in message(written)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "train.idx is not an index: expected lines 'key<TAB>byte', found 0 numbers."),
        ("0\t0\n1\n", "train.idx is not an index: expected lines 'key<TAB>byte', found 3 numbers."),
        ("0\tzero\n", "train.idx is not an index: expected lines 'key<TAB>byte' of whole numbers."),
        ("0\t0\n0\t40\n", "train.idx: record 0 is listed twice."),
        ("0\t-4\n", "train.idx lists record 0 at byte -4, but train.rec has only"),
    ],
)
def test_an_idx_that_is_none_is_named(written, text, expected):
    (written / "train.idx").write_text(text)
    assert message(written).startswith(expected)


def test_missing_files_are_named(tmp_path):
    assert message(tmp_path) == "train.rec: cannot read the record file (No such file or directory)."
    (tmp_path / "train.rec").write_bytes(b"")
    assert message(tmp_path) == "train.idx: cannot read the index of the record file (No such file or directory)."


@pytest.mark.parametrize("label", [-1.0, 0.5, float("nan"), 1e10])
def test_a_label_that_is_no_class_is_named(tmp_path, label):
    write_raw(tmp_path, [((0.0,), b"a"), ((label,), b"b")])
    assert f"record 1 (byte 36): expected a class number 0, 1, 2, ..., found {label:g}." in message(tmp_path)


def test_parts_in_a_wrong_order_are_named(tmp_path):
    content = MAGIC + struct.pack("<I", 3 << 29 | 4) + b"abcd"
    (tmp_path / "train.rec").write_bytes(content)
    (tmp_path / "train.idx").write_text("0\t0\n")
    with pytest.raises(ValueError, match=r"record 0 \(byte 0\): part 1 is marked 3, which is not allowed there"):
        RecordFile(tmp_path / "train.rec").read(0)
    (tmp_path / "train.rec").write_bytes(MAGIC + struct.pack("<I", 1 << 29 | 4) + b"abcd")
    with pytest.raises(ValueError, match=r"record 0 \(byte 0\): part 2, byte 12: the file ends, found nothing"):
        RecordFile(tmp_path / "train.rec").read(0)


def test_a_header_too_short_or_with_too_many_labels_is_named(tmp_path):
    (tmp_path / "train.idx").write_text("0\t0\n")
    (tmp_path / "train.rec").write_bytes(frame(b"abc"))
    with pytest.raises(ValueError, match="3 bytes are too few for the header of an image record"):
        RecordFile(tmp_path / "train.rec").read(0)
    (tmp_path / "train.rec").write_bytes(frame(struct.pack("<IfQQ", 1000, 0, 0, 0)))
    with pytest.raises(ValueError, match="its header declares 1000 labels, but it has 24 bytes"):
        RecordFile(tmp_path / "train.rec").read(0)
