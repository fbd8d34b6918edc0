"""The demo data: reproducible, honest, complete or absent."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from ppfacerec.data.datasets.label_file import LabelFile
from ppfacerec.data.pairs.pair_bin import read_bin
from ppfacerec.data.transforms.images import decode_rgb
from ppfacerec.demo import demo_faces
from ppfacerec.demo.demo_faces import PAIR_VIEWS, draw_jpeg, list_shots, make_demo_data, pair_order
from ppfacerec.demo.face_renderer import TEMPLATE, Conditions, Face, Identity

SMALL = {"num_identities": 3, "images_per_identity": 2, "num_pairs": 40, "seed": 7}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_data(tmp_path_factory.mktemp("demo") / "faces", **SMALL)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.slow
def test_same_seed_gives_same_bytes_with_and_without_processes(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_faces, "SMALL", 10**9)
    again = make_demo_data(tmp_path / "again", **SMALL)
    assert contents(again) == contents(demo)


def test_another_seed_gives_other_faces() -> None:
    one, two = (demo_faces.draw_jpeg(list_shots(1, 1, 40, seed)[0]) for seed in (0, 1))
    assert one != two


def test_folder_has_the_layout_of_ms1m_v3(demo: Path) -> None:
    assert sorted(p.name for p in demo.iterdir()) == sorted(
        ["README.txt", "demo.json", "images", "label.txt", *(f"{name}.bin" for name in PAIR_VIEWS)]
    )
    lines = (demo / "label.txt").read_bytes().decode("ascii").split("\n")
    assert lines == [*(f"images/{i:08d}.jpg\t{i // 2}" for i in range(6)), ""]
    assert LabelFile(demo / "label.txt", class_num=3).labels.tolist() == [0, 0, 1, 1, 2, 2]
    image = decode_rgb((demo / "images" / "00000005.jpg").read_bytes(), "image 5")
    assert image.shape == (112, 112, 3)


def test_readme_says_that_the_faces_are_drawings(demo: Path) -> None:
    text = (demo / "README.txt").read_text()
    assert "computer drawings, not photographs" in text
    assert "are NOT the public sets of these names" in text


@pytest.mark.parametrize("name", PAIR_VIEWS)
def test_bins_have_ten_balanced_folds_and_every_image_in_two_pairs(demo: Path, name: str) -> None:
    pairs = read_bin(demo / f"{name}.bin")
    assert pairs.is_same.tolist() == ([True] * 2 + [False] * 2) * 10
    assert len(pairs.images) == 40
    assert np.bincount(pairs.index).tolist() == [2] * 40


@pytest.mark.parametrize("num_pairs", [40, 60, 200])
def test_pairs_are_same_exactly_when_they_say_so(num_pairs: int) -> None:
    order, is_same = pair_order(num_pairs)
    identity = np.array(order).reshape(-1, 2) // 2
    assert (identity[:, 0] == identity[:, 1]).tolist() == is_same
    fold_of_pair = np.arange(num_pairs) // (num_pairs // 10)
    assert (identity // (num_pairs // 20) == fold_of_pair[:, None]).all(), "folds share no identity"


def test_identities_of_the_bins_are_unseen() -> None:
    people: dict[tuple[float, ...], set[int]] = {}
    for shot in list_shots(4, 2, 40, seed=0):
        identity = Identity(np.random.default_rng(shot[:3]))
        people.setdefault(tuple(identity.shape.values()), set()).add(shot[1])
    assert len(people) == 4 + 5 * 20
    assert all(len(groups) == 1 for groups in people.values())


def test_images_of_an_identity_differ_and_are_nearer_than_those_of_others_without_nuisance() -> None:
    identities = [Identity(np.random.default_rng(i)) for i in range(3)]
    hard = [Face(identities[0], Conditions(np.random.default_rng(i), (0, 60), (0, 1), 1.0)).render() for i in range(4)]
    assert len({image.tobytes() for image in hard}) == 4
    easy = [
        Face(identity, Conditions(np.random.default_rng(i), (0, 1), (0.2, 0.2), 0.0)).render()
        for identity in identities
        for i in range(2)
    ]
    middle = np.stack([image[20:100, 25:87].astype(float).ravel() for image in easy])
    distance = np.linalg.norm(middle[:, None] - middle[None], axis=-1)
    same = [distance[2 * i, 2 * i + 1] for i in range(3)]
    assert max(same) < min(distance[2 * i, 2 * j] for i in range(3) for j in range(i))


@pytest.mark.parametrize("yaw", [0, 30, 60])
def test_eyes_are_where_aligned_crops_have_them(yaw: float) -> None:
    face = Face(Identity(np.random.default_rng(0)), Conditions(np.random.default_rng(0), (yaw, yaw), (0, 1), 0.0))
    eyes = face.project(face.surface([[-face.eye_x, 0], [face.eye_x, 0]]))
    assert np.abs(eyes - TEMPLATE[:2]).max() < 3 + yaw / 5


def test_second_call_leaves_the_folder_alone(demo: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in demo.rglob("*")}
    assert make_demo_data(str(demo), **SMALL) == demo
    assert {p: p.stat().st_mtime_ns for p in demo.rglob("*")} == before


@pytest.mark.slow
def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_faces, "write_bin", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_demo_data(tmp_path / "faces", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_faces, "in_processes", lambda draw, shots, count: (repr(shot).encode() for shot in shots))
    (tmp_path / "faces").mkdir()
    make_demo_data(tmp_path / "faces", **SMALL)
    assert json.loads((tmp_path / "faces" / "demo.json").read_text())["num_identities"] == 3


def test_other_arguments_than_the_folders_are_an_error(demo: Path) -> None:
    message = (
        f"{demo} holds demo data made with {{'version': 2, 'num_identities': 3, 'images_per_identity': 2, "
        "'num_pairs': 40, 'seed': 7}, expected {'version': 2, 'num_identities': 4, 'images_per_identity': 2, "
        "'num_pairs': 40, 'seed': 7}. "
        "Remove the folder to make it again, choose another one, or use the same arguments."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_demo_data(demo, **{**SMALL, "num_identities": 4})


def test_a_folder_of_something_else_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "label.txt").write_text("mine")
    message = (
        f"{tmp_path} exists and is not demo data (it has no demo.json), so it is left unchanged. "
        "Choose another folder for the demo data, or remove this one if you do not need it."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_demo_data(tmp_path, **SMALL)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_pairs", 50, "a multiple of 20 from 40 on (10 folds, half same and half different), found 50."),
        ("num_pairs", 20, "a multiple of 20 from 40 on (10 folds, half same and half different), found 20."),
        ("num_identities", 1, "an integer of at least 2, found 1."),
        ("images_per_identity", 0.5, "a whole number of at least 1, found 0.5."),
        ("seed", -1, "a whole number of at least 0, found -1."),
    ],
)
def test_bad_arguments_say_what_to_do(tmp_path: Path, name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name}: expected {message}')}$"):
        make_demo_data(tmp_path / "faces", **{**SMALL, name: value})
    assert not (tmp_path / "faces").exists()


def test_without_a_semaphore_one_process_draws(monkeypatch, log_lines) -> None:
    def no_room(*arguments, **options):
        raise OSError(28, "No space left on device")  # /dev/shm of 4 KiB

    monkeypatch.setattr("ppfacerec.data.loading.parallel.ProcessPoolExecutor", no_room)
    shots = list_shots(2, 1, 40, 0)[:2]
    assert list(demo_faces.in_processes(draw_jpeg, shots, 2)) == [draw_jpeg(shot) for shot in shots]
    assert "/dev/shm cannot hold a semaphore (No space left on device): using one process." in log_lines.text
