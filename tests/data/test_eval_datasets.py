"""Verification sets: .bin folders, PaddleClas's pair lists, LFW's pairs.txt; each mistake with its file and line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ppfacerec.data.pairs.eval_datasets import FaceEvalDataset, FiveFaceEvalDataset, LFWEvalDataset
from ppfacerec.data.pairs.pair_list import read_lfw_pairs, read_pair_list


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """faces/{anna,bo,cy}/{anna,bo,cy}_000{1,2,3}.jpg, each file holding its own name."""
    for person in ("anna", "bo", "cy"):
        folder = tmp_path / "faces" / person
        folder.mkdir(parents=True)
        for number in (1, 2, 3):
            (folder / f"{person}_{number:04d}.jpg").write_text(f"{person}{number}")
    return tmp_path / "faces"


def listed(people: Path, text: str) -> str:
    path = people.parent / "pairs.txt"
    path.write_bytes(text.encode())
    return str(path)


A1, A2, B1 = "anna/anna_0001.jpg", "anna/anna_0002.jpg", "bo/bo_0001.jpg"


def test_bins_are_those_named_or_all(tiny_data: Path) -> None:
    lfw = FiveFaceEvalDataset(str(tiny_data), ["lfw", "lfw"])
    assert lfw.names == ["lfw"]
    assert lfw.describe() == "lfw; left out: cfp_fp (val_targets: all includes them)"
    assert len(lfw.open("lfw")) == 20
    both = FiveFaceEvalDataset(str(tiny_data), "all")
    assert both.names == ["cfp_fp", "lfw"]
    assert both.describe() == "cfp_fp, lfw"


def test_a_missing_set_is_named_with_what_is_there(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"agedb_30\.bin does not exist\. In that folder: cfp_fp, lfw\.$"):
        FiveFaceEvalDataset(str(tiny_data))
    with pytest.raises(ValueError, match=r"has no \.bin file\.$"):
        FiveFaceEvalDataset(str(tmp_path), "all")


@pytest.mark.parametrize(
    "text",
    [
        f"{A1} {A2} 1\n{A1} {B1} 0\n",
        f"\ufeff{A1}\t{A2}\t1\r\n\r\n{A1}\t./anna/../{B1}\t0",
        f"{A1}  {A2}   1\n {A1} {B1} 0 ",
    ],
    ids=["spaces", "tabs, CRLF, BOM, no final newline", "several spaces"],
)
def test_pair_list_names_each_image_once_and_reads_it_late(people: Path, text: str) -> None:
    dataset = FaceEvalDataset(str(people), listed(people, text))
    assert dataset.names == ["pairs"]
    assert dataset.describe() == "pairs (2 pairs of 3 images)"
    pairs = dataset.open("pairs")
    assert (pairs.num_images, pairs.num_folds) == (3, None)
    assert pairs.index.tolist() == [0, 1, 0, 2]
    assert pairs.is_same.tolist() == [True, False]
    assert [pairs.read(i) for i in range(3)] == [b"anna1", b"anna2", b"bo1"]
    assert pairs.identities == ["anna", "anna", "bo"]  # the folders, which agree with the labels
    assert re.fullmatch(rf".*pairs\.txt, line [123] \({B1}\)", pairs.where(2))
    (people / B1).unlink()
    with pytest.raises(ValueError, match=r"pairs\.txt, line \d \(bo/bo_0001\.jpg\): cannot read .*No such file"):
        pairs.read(2)


def test_other_delimiters_allow_blanks_in_names(people: Path) -> None:
    (people / "a b.jpg").write_text("blank")
    pairs = read_pair_list(listed(people, f"a b.jpg,{A1},0\n"), str(people), ",")
    assert pairs.names == ("a b.jpg", A1)


def test_folders_that_contradict_the_labels_are_no_identities(people: Path) -> None:
    for text in (f"{A1} {A2} 0\n{A1} {B1} 0", f"{A1} {B1} 1\n", f"{A1} {A2} 1\n"):
        assert read_pair_list(listed(people, text), str(people)).identities is None


LIST_MISTAKES = [
    (f"{A1} {A2} 1\n{A1} {B1}\n", f", line 2: expected 'left' 'right' '0 or 1', found '{A1} {B1}'."),
    (f"{A1} {A2} 2\n", ", line 1: expected 1 (same person) or 0 at the end, found '2'."),
    (f"{A1} {A2} True\n", ", line 1: expected 1 (same person) or 0 at the end, found 'True'."),
    (f"{A1},{A2},1\n", f", line 1: expected 'left' 'right' '0 or 1', found '{A1},{A2},1'. The line has ','; set `delimiter` to it."),
    ("\n \n", ": no pairs found."),
    (f"{A1} {A2} 1\n\n{A1} bo/none.jpg 0\n", ", line 3: the image ROOT/bo/none.jpg does not exist. Is the image folder 'ROOT' right?"),
    (f"{A1} ../pairs.txt 0\n", ", line 1: '../pairs.txt' leaves the image folder ROOT. Write paths relative to it."),
    (f"{A1} anna/../../pairs.txt 0\n", ", line 1: '../pairs.txt' leaves the image folder ROOT. Write paths relative to it."),
    (f"{A1} /etc/passwd 0\n", ", line 1: '/etc/passwd' leaves the image folder ROOT. Write paths relative to it."),
    (f"{A1} anna 0\n", ", line 1: the image ROOT/anna does not exist. Is the image folder 'ROOT' right?"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), LIST_MISTAKES)
def test_mistakes_in_a_pair_list_are_named_with_their_line(people: Path, text: str, message: str) -> None:
    path = listed(people, text)
    with pytest.raises(ValueError, match=f"^{re.escape(path + message.replace('ROOT', str(people)))}$"):
        FaceEvalDataset(str(people), path)


def test_a_list_that_is_no_text_or_not_there_is_named(people: Path) -> None:
    path = people.parent / "image.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match=r"image\.jpg, line 1: b'.*' is not UTF-8 \(invalid start byte\)\."):
        read_pair_list(str(path), str(people))
    with pytest.raises(ValueError, match=r"none\.txt: cannot read the pair list \(No such file or directory\)\."):
        read_pair_list(str(path.with_name("none.txt")), str(people))


LFW = "2\t1\nanna\t1\t2\nanna\t1\tbo\t3\nbo\t3\t1\ncy\t1\tbo\t3\n"


@pytest.mark.parametrize("text", [LFW, LFW.replace("\t", " ")])
def test_lfw_pairs_have_folds_and_identities(people: Path, text: str) -> None:
    pairs = LFWEvalDataset(str(people), listed(people, text)).open("pairs")
    assert pairs.num_folds == 2
    assert pairs.is_same.tolist() == [True, False, True, False]
    assert pairs.names == (A1, A2, "bo/bo_0003.jpg", B1, "cy/cy_0001.jpg")
    assert pairs.index.tolist() == [0, 1, 0, 2, 2, 3, 4, 2]
    assert pairs.identities == ["anna", "anna", "bo", "bo", "cy"]
    assert pairs.read(4) == b"cy1"
    assert pairs.where(4).endswith("pairs.txt, line 5 (cy/cy_0001.jpg)")


def test_lfw_development_lists_have_no_folds(people: Path) -> None:
    pairs = read_lfw_pairs(listed(people, "2\nanna 1 2\nbo 1 2\nanna 1 bo 1\nbo 1 cy 1\n"), str(people))
    assert pairs.num_folds is None
    assert pairs.is_same.tolist() == [True, True, False, False]


def test_lfw_images_may_have_another_suffix(people: Path) -> None:
    for number in (1, 2):
        (people / "anna" / f"anna_{number:04d}.png").write_text("png")
    pairs = read_lfw_pairs(listed(people, "1\nanna 1 2\nanna 1 anna 2\n"), str(people), ".png")
    assert pairs.read(0) == b"png"


LFW_MISTAKES = [
    ("anna\t1\t2\n", ", line 1: expected the numbers of folds and pairs, such as '10<TAB>300', found 'anna\\t1\\t2'."),
    ("", ", line 1: expected the numbers of folds and pairs, such as '10<TAB>300', found ''."),
    ("0\t300\n", ", line 1: expected the numbers of folds and pairs, such as '10<TAB>300', found '0\\t300'."),
    ("1\t1\nanna\t1\tx\n", ", line 2: expected 'name i j' or 'name i other j', found 'anna\\t1\\tx'."),
    ("1\t1\nanna\t1\tbo\t1\n", ", line 2: expected 'name i j', two images of one person, as counted by the first line, found 'anna\\t1\\tbo\\t1'."),
    ("1\t1\nanna\t1\t2\nanna\t1\t3\n", ", line 3: expected 'name i other j', images of two people, as counted by the first line, found 'anna\\t1\\t3'."),
    ("2\t1\nanna\t1\t2\nanna\t1\tbo\t1\n", ": 2 pairs, but its first line declares 4: 2 x 1 of one person and as many of two. Get the file again."),
    ("1\t1\nanna\t1\t2\nanna\t1\tbo\t1\nanna\t1\t2\n", ": 3 pairs, but its first line declares 2: 1 x 1 of one person and as many of two. Get the file again."),
    ("1\t1\nanna\t1\t9\n\nanna\t1\tbo\t1\n", ", line 2: the image ROOT/anna/anna_0009.jpg does not exist. Is the image folder 'ROOT' right?"),
    ("1\t1\n..\t1\t2\nanna\t1\tbo\t1\n", ", line 2: '../.._0001.jpg' leaves the image folder ROOT. Write paths relative to it."),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), LFW_MISTAKES)
def test_mistakes_in_lfw_pairs_are_named_with_their_line(people: Path, text: str, message: str) -> None:
    path = listed(people, text)
    with pytest.raises(ValueError, match=f"^{re.escape(path + message.replace('ROOT', str(people)))}$"):
        LFWEvalDataset(str(people), path)


def test_a_long_list_is_read_in_a_moment(people: Path) -> None:
    text = "10\t300\n" + ("anna\t1\t2\n" * 300 + "anna\t1\tbo\t3\n" * 300) * 10
    pairs = read_lfw_pairs(listed(people, text), str(people))
    assert len(pairs) == 6000
    assert pairs.num_images == 3
    assert np.array_equal(pairs.is_same[:600], np.arange(600) < 300)
