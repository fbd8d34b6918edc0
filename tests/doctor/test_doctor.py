"""Laws of the doctor: what is wrong is found, what is right is not accused, and the exit status says which."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import jpeg, picture

from ppfacerec.cli import main
from ppfacerec.data.pairs.pair_bin import write_bin
from ppfacerec.data.transforms.alignment import TEMPLATE
from ppfacerec.datatools.doctor.embedding_checks import Centres, check_centres
from ppfacerec.inference.image_facts import similar_pairs


def face(identity, number=0, size=112):
    """The tests' picture with dark eyes at the template's places."""
    image = np.full((size, size, 3), 200, np.uint8) // 2 + picture(identity, number, size) // 2
    for x, y in TEMPLATE[:2]:
        cv2.circle(image, (round(x * size / 112), round(y * size / 112)), 9, (5, 5, 5), -1)
    return image


@pytest.fixture
def people(tmp_path):
    root = tmp_path / "people"
    for k in range(6):
        (root / f"p{k}").mkdir(parents=True)
        for number in range(3):
            (root / f"p{k}" / f"{number}.jpg").write_bytes(jpeg(face(k, number)))
    return root


def examine(capsys, *arguments):
    """Exit status, and the findings by check."""
    capsys.readouterr()
    status = main(["doctor", *(str(a) for a in arguments), "--json", "--processes", "1"])
    report = json.loads(capsys.readouterr().out)
    found = {one["check"]: one for one in report["findings"]}
    assert report["errors"] == sum(one["level"] == "error" for one in found.values())
    assert status == int(report["errors"] > 0)
    return status, found


def levels(found, *but):
    return {one["level"] for check, one in found.items() if check not in but}


def test_a_good_folder_is_ok(people, capsys):
    status, found = examine(capsys, people)
    assert status == 0
    assert levels(found, "duplicates (picture)") == {"ok"}
    assert found["class_num"]["message"] == "6 classes, 18 images."


def test_damage_is_found(people, capsys):
    (people / "p0" / "broken.jpg").write_bytes(b"junk")
    (people / "p1" / "empty.jpg").write_bytes(b"")
    (people / "p2" / "large.jpg").write_bytes(jpeg(face(2, 7, size=150)))
    (people / "p3" / "grey.png").write_bytes(
        cv2.imencode(".png", cv2.cvtColor(face(3, 8), cv2.COLOR_RGB2GRAY))[1].tobytes()
    )
    shutil.copy(people / "p4" / "1.jpg", people / "p5" / "same.jpg")
    (people / "p6").mkdir()
    (people / "p6" / "alone.jpg").write_bytes(jpeg(face(6)))
    status, found = examine(capsys, people)
    assert status == 1
    assert found["unreadable"]["level"] == "error"
    assert "2 of 24 images cannot be used" in found["unreadable"]["message"]
    assert [e.split("people/")[1][:6] for e in found["unreadable"]["examples"]] == ["p0/bro", "p1/emp"]
    assert found["size"]["examples"] == [f"{people}/p2/large.jpg: 150 x 150"]
    assert found["grey"]["examples"] == [f"{people}/p3/grey.png"]
    assert found["duplicates (bytes)"]["message"] == "Pairs: 1, under two classes: 1; a label is wrong."
    assert found["duplicates (bytes)"]["examples"] == [f"{people}/p4/1.jpg = {people}/p5/same.jpg"]
    assert found["single images"]["level"] == "warning"
    assert found["single images"]["examples"] == ["class 6"]


def test_an_image_that_was_encoded_again_is_found(people, capsys):
    image = cv2.imread(str(people / "p2" / "0.jpg"))
    cv2.imwrite(str(people / "p4" / "again.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 60])
    _, found = examine(capsys, people)
    assert found["duplicates (bytes)"]["level"] == "ok"
    assert f"{people}/p2/0.jpg = {people}/p4/again.jpg" in found["duplicates (picture)"]["examples"]


def test_unaligned_faces_are_found(people, capsys):
    for k, path in enumerate(sorted(people.rglob("*.jpg"))):
        path.write_bytes(jpeg(np.roll(face(k, 0), (30, 25), axis=(0, 1))))
    _, found = examine(capsys, people)
    assert found["alignment"]["level"] == "warning"


def test_people_of_the_test_set_are_found_by_bytes_and_picture(people, tmp_path, capsys):
    known = [(people / "p1" / f"{k}.jpg").read_bytes() for k in range(2)]
    again = cv2.imencode(".jpg", cv2.imread(str(people / "p3" / "2.jpg")), [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()
    new = [jpeg(face(50 + k)) for k in range(4)]
    write_bin(tmp_path / "known.bin", [*known, again, new[0]], [True, False])
    write_bin(tmp_path / "new.bin", new, [False, False])
    status, found = examine(capsys, people, "--test", tmp_path / "known.bin", tmp_path / "new.bin")
    assert status == 1
    assert "2 of 4 test images have the same bytes" in found["known: overlap (bytes)"]["message"]
    assert "known.bin, entry 0 (pair 0) = " in found["known: overlap (bytes)"]["examples"][0]
    assert found["known: overlap (picture)"]["level"] == "error"
    assert any("entry 2" in example for example in found["known: overlap (picture)"]["examples"])
    assert found["new: overlap (bytes)"]["level"] == found["new: overlap (picture)"]["level"] == "ok"


def test_people_of_the_test_set_are_found_by_name(tiny_net_config, people, capsys):
    (people / "pairs.txt").write_text("p1/0.jpg p1/1.jpg 1\np1/0.jpg p2/0.jpg 0\n")
    named = people / "Anna_Bell"
    (people / "p0").rename(named)
    tests = people.parent / "tests"
    (tests / "anna bell").mkdir(parents=True)
    (tests / "carl").mkdir()
    for k, name in enumerate(["anna bell/1.jpg", "anna bell/2.jpg", "carl/1.jpg"]):
        (tests / name).write_bytes(jpeg(face(70 + k)))
    (tests / "pairs.txt").write_text("anna bell/1.jpg\tanna bell/2.jpg\t1\nanna bell/1.jpg\tcarl/1.jpg\t0\n")
    ops = ["DecodeImage", "NormalizeImage"]
    config = tiny_net_config(**{
        "DataLoader.Train.dataset": {"name": "FolderDataset", "root": str(people), "transform_ops": ops},
        "DataLoader.Eval.dataset": {"name": "FaceEvalDataset", "dataset_root": str(tests),
                                    "pair_label_path": str(tests / "pairs.txt"), "transform_ops": ops},
        "Arch.Head.class_num": None,
    })  # fmt: skip
    status, found = examine(capsys, "-c", config)
    assert status == 1
    assert found["pairs: overlap (names)"]["examples"] == ["anna bell"]
    assert found["with weights"]["level"] == "note"


def test_a_config_is_examined(tiny_net_config, capsys):
    config = tiny_net_config(**{"Arch.Head.class_num": 7, "DataLoader.Train.loader.num_workers": 500})
    _, found = examine(capsys, "-c", config, "-o", "Optimizer.lr.learning_rate=0.5")
    assert found["class_num"]["message"].startswith("Arch.Head.class_num is 7, the data has 5;")
    assert found["class_num"]["level"] == "warning"
    assert found["workers"]["level"] == "warning"
    assert found["learning rate"]["level"] == "warning"
    assert "0.5 with AdamW for a total batch of 4; usual is about" in found["learning rate"]["message"]
    _, found = examine(capsys, "-c", config, "-o", "DataLoader.Train.sampler.batch_size=30")
    assert found["batch"]["level"] == "error"
    _, found = examine(capsys, "-c", config, "-o", "DataLoader.Train.sampler.batch_size=1000000")
    assert found["memory"]["level"] == "error"
    _, found = examine(capsys, "-c", config, "--max-images", 7)
    assert "7 of 20 were examined" in found["images"]["message"]


@pytest.mark.slow
def test_with_weights_embeddings_are_looked_at(tiny_net_config, tmp_path, capsys):
    assert main(["train", "-c", str(tiny_net_config())]) == 0
    weights = f"Global.pretrained_model={tmp_path}/output/latest"
    _, found = examine(capsys, "-c", tiny_net_config(), "-o", weights)
    assert {"colour order", "label noise", "lfw: overlap (people)", "cfp_fp: overlap (people)"} <= set(found)


def clusters(num_classes=8, each=10, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), each)
    points = rng.normal(size=(num_classes, 64))[labels] + noise * rng.normal(size=(len(labels), 64))
    return points / np.linalg.norm(points, axis=1, keepdims=True), labels


def test_own_cosines_leave_the_image_itself_out():
    embeddings, labels = clusters()
    centres = Centres(embeddings, labels)
    for k in (0, 33, 79):
        others = embeddings[(labels == labels[k]) & (np.arange(80) != k)].sum(axis=0)
        assert centres.own[k] == pytest.approx(others @ embeddings[k] / np.linalg.norm(others))
        near = [embeddings[labels == c].sum(axis=0) for c in range(8)]
        cosines = [c @ embeddings[k] / np.linalg.norm(c) for c in near]
        cosines[labels[k]] = -2
        assert centres.other[k] == pytest.approx(max(cosines))
        assert centres.other_class[k] == int(np.argmax(cosines))


def test_a_wrong_label_and_a_known_person_stand_out():
    embeddings, labels = clusters()
    labels = labels.copy()
    labels[13] = 5  # of class 1
    centres = Centres(embeddings, labels)
    nearer = centres.other - centres.own
    assert np.flatnonzero(nearer > 0.1).tolist() == [13]
    assert centres.other_class[13] == 1
    known, _ = clusters(seed=0, noise=0.35)
    strangers, _ = clusters(seed=9)
    assert (centres.nearest(known)[0] >= centres.same_person_from()).mean() > 0.9
    assert (centres.nearest(strangers)[0] >= centres.same_person_from()).mean() == 0


def test_similar_pairs_equal_a_plain_loop():
    rows = np.random.default_rng(0).normal(size=(600, 3))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    expected = [(a, b) for a in range(600) for b in range(a + 1, 600) if rows[a] @ rows[b] >= 0.999]
    assert similar_pairs(rows, rows, 0.999, same=True) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "Give a folder, or a config with -c"),
        (
            ["no/folder"],
            "no/folder: expected a folder with label.txt, train.rec, or one subfolder per identity.",
        ),
        (["."], "no image in it"),
        ([".", "--max-images", "0"], "--max-images: expected a whole number of at least 1, found 0."),
        ([".", "--test", "no.bin"], "no.bin"),
    ],
)
def test_mistakes_are_told(tmp_path, monkeypatch, capsys, arguments, expected):
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", *arguments]) == 1
    assert expected in capsys.readouterr().out


def test_a_label_of_two_billion_takes_no_memory(tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(jpeg(picture(0, 0)))
    (tmp_path / "label.txt").write_text("a.jpg\t2147483647\na.jpg\t0\n")
    main(["doctor", str(tmp_path), "--json"])
    found = {one["check"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["label gaps"]["message"].startswith("2147483646 of the classes 0 to 2147483647 have no image")
    assert found["label gaps"]["examples"] == [f"class {k}" for k in range(1, 6)]


def test_one_class_is_an_error(tmp_path, capsys):
    (tmp_path / "people" / "anna").mkdir(parents=True)
    (tmp_path / "people" / "anna" / "1.jpg").write_bytes(jpeg(face(0)))
    status, found = examine(capsys, tmp_path / "people")
    assert status == 1
    assert found["classes"]["message"] == "All images are of one class: there is nothing to distinguish."


@pytest.mark.parametrize(("factor", "level"), [(2.9, "ok"), (8.0, "warning"), (1 / 8, "warning")])
def test_a_rate_eight_times_the_usual_is_not_ok(tiny_net_config, capsys, factor, level):
    usual = 4e-3 * (4 / 1024) ** 0.5
    path = tiny_net_config(**{"Optimizer.lr.learning_rate": factor * usual})
    assert examine(capsys, "-c", path)[1]["learning rate"]["level"] == level


def test_a_person_with_a_class_in_two_data_sets_is_found_by_name(tiny_net_config, people, tmp_path, capsys):
    shutil.copytree(people, tmp_path / "more")
    for k in range(6):
        (tmp_path / "more" / f"p{k}").rename(tmp_path / "more" / ("P2" if k == 2 else f"{k}" if k < 4 else f"q{k}"))
    (people / "p0").rename(people / "1")  # two folders that are called 1: numbers say nothing
    parts = [{"name": "FolderDataset", "root": str(root)} for root in (people, tmp_path / "more")]
    ops = [{"DecodeImage": None}, {"NormalizeImage": None}]
    dataset = {"name": "ConcatDataset", "datasets": parts, "transform_ops": ops}
    path = tiny_net_config(**{"DataLoader.Train.dataset": dataset, "Arch.Head.class_num": None})
    found = examine(capsys, "-c", path)[1]["one person, two classes (names)"]
    assert found["level"] == "warning"
    assert found["message"].startswith("People with several folders, each its own class: 1")
    assert found["examples"] == ["class 2 (p2) = class 9 (P2)"]


def test_two_classes_of_one_person_are_found_by_their_centres():
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(64, 64)))[0][:8]
    directions[7] = directions[3]
    labels = np.repeat(np.arange(8), 6)
    rows = directions[labels] + rng.normal(0, 0.08, (48, 64))
    centres = Centres(rows / np.linalg.norm(rows, axis=1, keepdims=True), labels)
    sample = SimpleNamespace(labels=labels, where=lambda k: f"image {k}")
    found = check_centres(centres, sample)
    assert found.level == "warning"
    assert "as images usually are to their own: 1; one person" in found.message
    assert found.examples[0].startswith("class 3 (image 18) = class 7 (image 42): cosine 0.9")
