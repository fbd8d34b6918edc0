"""Embed, compare, enroll, search, cluster."""

from __future__ import annotations

import csv
import dataclasses
import re
import sys

import numpy as np
import paddle
import pytest
from conftest import jpeg, picture
from tiny_plugin import TinyNet

import ppfacerec
from ppfacerec.cli import main
from ppfacerec.export.convert_weights import write_pdparams
from ppfacerec.inference.approximate import ApproximatePeople
from ppfacerec.inference.clusters import cluster
from ppfacerec.inference.face_model import FaceModel, Threshold
from ppfacerec.inference.image_files import find_images, person_of
from ppfacerec.inference.people_index import PeopleIndex, read_index
from ppfacerec.weights.info import ModelInfo, from_tree, info_path

POINT = {"cosine": 0.5, "tar": 0.9, "num_different": 3000.0}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """TinyNet, whose random weights tell `picture`'s identities well enough."""
    paddle.seed(0)
    path = tmp_path_factory.mktemp("model") / "best_model.pdparams"
    write_pdparams(path, {k: v.numpy() for k, v in TinyNet().state_dict().items()})
    thresholds = {"lfw": {"1e-3": {**POINT, "cosine": 0.8}}}
    ModelInfo({"name": "TinyNet"}, 16, thresholds=thresholds).save(info_path(path))
    return str(path)


@pytest.fixture(scope="module")
def model(weights):
    return ppfacerec.load(weights)


@pytest.fixture
def people(tmp_path):
    """people/0/0.jpg ... : 4 people, 3 images each."""
    for person in range(4):
        (tmp_path / "people" / str(person)).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "people" / str(person) / f"{number}.jpg").write_bytes(jpeg(picture(person, number)))
    return tmp_path / "people"


def test_paths_bytes_and_arrays_give_the_same_embedding(tmp_path, model):
    encoded = jpeg(picture(0, 0))
    (tmp_path / "a.jpg").write_bytes(encoded)
    from ppfacerec.data.transforms.images import decode_rgb

    pixels = decode_rgb(encoded, "a")
    alone = model.embed(pixels)
    assert alone.shape == (16,)
    assert np.linalg.norm(alone) == pytest.approx(1, abs=1e-6)
    for images in ([str(tmp_path / "a.jpg"), tmp_path / "a.jpg", encoded, pixels], np.stack([pixels] * 4)):
        np.testing.assert_allclose(model.embed(images, batch_size=3), [alone] * 4, atol=1e-6)
    assert model.embed([]).shape == (0, 16)


def test_the_mirrored_image_counts_where_the_model_says_so():
    info = ModelInfo({"name": "X"}, 2, flip_test=True)
    run = lambda images: images[:, 0, [0, -1], 0].astype(np.float32)  # noqa: E731
    image = np.zeros((112, 112, 3), np.uint8)
    image[0, 0, 0], image[0, -1, 0] = 30, 40
    both = FaceModel(run, info, "x").embed(image)
    one = FaceModel(run, dataclasses.replace(info, flip_test=False), "x").embed(image)
    np.testing.assert_allclose(both, [0.5**0.5] * 2, atol=1e-6)
    np.testing.assert_allclose(one, [0.6, 0.8], atol=1e-6)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("gone.jpg", r"gone\.jpg cannot be read \(No such file or directory\)"),
        (b"no image", "image 0 does not decode as an image"),
        (np.zeros((112, 112, 3)), r"image 0: expected a path, .* found float64 \[112, 112, 3\]"),
        (3, r"image 0: expected a path, .* found int"),
        (
            np.zeros((250, 200, 3), np.uint8),
            r"the image is 200 x 250, expected an aligned face of 112 x 112\. Align it",
        ),
    ],
)
def test_what_is_no_aligned_face_is_named(model, image, message):
    with pytest.raises(ValueError, match=message):
        model.embed([image])


def test_compare_says_the_far_in_words(model):
    same = model.compare(picture(0, 0), picture(0, 1))
    different = model.compare(picture(0, 0), picture(1, 0))
    assert same.is_same and not different.is_same
    assert str(same).endswith(
        "the same person (threshold 0.800: at most 1 in 1,000 pairs of different people is wrongly called the same, "
        "90.0 % of the pairs of one person are found (measured on lfw, 3,000 different pairs))"
    )
    assert "different people (threshold -1.000, chosen by you)" not in str(different)
    assert str(model.compare(picture(0, 0), picture(1, 0), threshold=-1)).endswith("(threshold -1.000, chosen by you)")


def test_the_strictest_of_the_sets_decides():
    thresholds = {
        "lfw": {"1e-3": POINT},
        "cfp_fp": {"1e-3": {**POINT, "cosine": 0.6, "tar": 0.5, "num_different": 500.0}},
    }
    model = FaceModel(lambda x: x, ModelInfo({"name": "X"}, 2, thresholds=thresholds), "x")
    assert model.threshold() == Threshold(0.6, 1e-3, 0.5, "lfw, cfp_fp", 500)


def test_small_sets_give_the_threshold_that_they_can_tell(model):
    """A set of 300 different pairs knows no FAR of 1e-3; one of its own is not refused for that."""
    thresholds = {"mine": {"1e-1": POINT, "1e-2": {**POINT, "cosine": 0.7}}}
    model.info = dataclasses.replace(model.info, thresholds=thresholds)
    assert (model.threshold().far, model.threshold().cosine) == (1e-2, 0.7)
    with pytest.raises(ValueError, match="a FAR of 1e-3: known are 1e-2, 1e-1"):
        model.threshold(1e-3)


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        (
            {},
            "x has no measured threshold for a FAR of 1e-4: it has not been evaluated; run `ppfacerec eval` on it",
        ),
        ({"lfw": {"1e-3": POINT, "1e-1": POINT}}, r"a FAR of 1e-4: known are 1e-3, 1e-1\. Or give a cosine"),
    ],
)
def test_a_threshold_that_was_not_measured_is_not_made_up(thresholds, message):
    model = FaceModel(lambda x: x, ModelInfo({"name": "X"}, 2, thresholds=thresholds), "x")
    with pytest.raises(ValueError, match=message):
        model.threshold(1e-4)


def test_files_folders_and_lists_are_found_in_order(tmp_path, people):
    (people / "list.txt").write_text("0/1.jpg\t0\n\n1/0.jpg\n")
    (people / "notes.md").write_text("x")
    assert len(find_images([people])) == 12
    found = find_images([people / "list.txt", people / "3" / "2.jpg"])
    assert [str(p.relative_to(people)) for p in found] == ["0/1.jpg", "1/0.jpg", "3/2.jpg"]
    with pytest.raises(ValueError, match="gone does not exist; expected an image, a folder of images"):
        find_images([tmp_path / "gone"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no images in it"):
        find_images([tmp_path / "empty"])


def test_a_persons_name_is_the_folder_below_the_gallery(people):
    assert person_of(people / "anna" / "2019" / "1.jpg", people) == "anna"
    assert person_of(people / "bo.jpg", people) == "bo"


def test_embed_writes_what_can_be_read_and_lists_the_rest(tmp_path, weights, people, capsys):
    (people / "0" / "broken.jpg").write_bytes(b"x")
    out = tmp_path / "emb.npz"
    assert main(["infer", "embed", str(people), "--model", weights, "--out", str(out), "--batch-size", "5"]) == 0
    content = np.load(out)
    assert content["embeddings"].shape == (12, 16)
    assert len(content["files"]) == 12 and not any("broken" in f for f in content["files"])
    assert "Left out: " in (said := capsys.readouterr().out) and "broken.jpg does not decode" in said


def test_enroll_and_search_know_the_enrolled_and_call_strangers_unknown(tmp_path, weights, people, capsys):
    index = str(tmp_path / "people.npz")
    assert main(["infer", "enroll", str(people), "--index", index, "--model", weights]) == 0
    (tmp_path / "probe.jpg").write_bytes(jpeg(picture(2, 9)))
    (tmp_path / "stranger.jpg").write_bytes(jpeg(picture(77, 0)))
    probes = [str(tmp_path / "probe.jpg"), str(tmp_path / "stranger.jpg")]
    capsys.readouterr()
    arguments = ["infer", "search", *probes, "--index", index, "--model", weights, "--top", "2"]
    assert main([*arguments, "--strangers", "0.2"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"probe\.jpg +2 +2 0\.9\d\d, \d 0\.\d+\n", said)
    assert re.search(r"stranger\.jpg +unknown", said)
    assert "about 1 in 5 strangers is mistaken for an enrolled person (measured on 12 enrolled images" in said
    assert main(arguments) == 0
    assert "too few images (12) to measure how many strangers are accepted. Threshold 0.800" in capsys.readouterr().out


@pytest.mark.parametrize("option", [("--top", "0"), ("--strangers", "1"), ("--batch-size", "0")])
def test_senseless_options_are_refused(tmp_path, weights, capsys, option):
    assert main(["infer", "search", "x.jpg", "--index", "i.npz", "--model", weights, *option]) == 1
    assert f"{option[0]}: expected" in capsys.readouterr().out


def random_index(people=30, images=4, size=8, seed=0):
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((people * images, size)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    names = [f"p{i % people}" for i in range(people * images)]
    return (
        embeddings,
        names,
        PeopleIndex(embeddings, names, [f"{i}.jpg" for i in range(len(names))], embeddings[0], "m"),
    )


def test_search_is_exact_and_counts_a_person_once():
    embeddings, names, index = random_index()
    probe = embeddings[:5].sum(0) / np.linalg.norm(embeddings[:5].sum(0))
    best = {}
    for name, cosine, number in zip(names, embeddings @ probe, range(len(names))):
        if cosine > best.get(name, (-2, 0))[0]:
            best[name] = (cosine, number)
    expected = sorted(best.items(), key=lambda item: -item[1][0])[:7]
    found = index.search(probe, top=7)
    assert [(m.name, m.file) for m in found] == [(name, f"{number}.jpg") for name, (_, number) in expected]
    assert len(index.search(probe, top=1000)) == index.num_people == 30


def test_search_among_all_images_is_the_exact_search():
    embeddings, _, index = random_index()
    for probe in embeddings[:10]:
        exact, among = index.search(probe, 7), index.search_among(np.arange(len(index)), probe, 7)
        assert [(m.name, m.file) for m in among] == [(m.name, m.file) for m in exact]
        assert [m.cosine for m in among] == pytest.approx([m.cosine for m in exact], abs=1e-6)
    assert index.search_among(np.array([5, 3]), index.embeddings[3])[0].file == index.files[3]


def test_approximate_search_finds_nearly_all_that_exact_search_finds():
    pytest.importorskip("faiss")
    embeddings, _, index = random_index(people=400, images=5, size=32)
    people = ApproximatePeople(index)
    assert people.recall(5) > 0.95
    for probe in embeddings[:20]:
        exact, found = index.search(probe, 1)[0], people.search(probe, 1)[0]
        assert (found.name, found.file) == (exact.name, exact.file)
        assert found.cosine == pytest.approx(exact.cosine, abs=1e-6)
    with pytest.raises(ValueError, match=r"expected one of shape \[32\], as in the index, found \[3\]"):
        people.search(np.ones(3, np.float32))


def test_approximate_search_on_the_command_line_says_what_it_finds(tmp_path, weights, people, capsys):
    pytest.importorskip("faiss")
    index = str(tmp_path / "people.npz")
    assert main(["infer", "enroll", str(people), "--index", index, "--model", weights]) == 0
    image = str(next(people.rglob("*.jpg")))
    arguments = ["infer", "search", image, "--index", index, "--model", weights, "--threshold", "0.5"]
    capsys.readouterr()
    assert main(arguments) == 0
    exact = capsys.readouterr().out
    assert main([*arguments, "--ann"]) == 0
    approximate = capsys.readouterr().out
    assert "Approximate search finds 100.0 % of the 5 nearest people of exact search" in approximate
    assert approximate[approximate.index("image  ") :] == exact[exact.index("image  ") :]


def test_approximate_search_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r'Approximate search needs faiss \(.*\): pip install -e .*\[ann\]"'):
        ApproximatePeople(random_index()[2])


def test_the_stranger_threshold_is_the_share_of_images_that_look_most_like_someone_else():
    embeddings, names, index = random_index()
    cosines = embeddings @ embeddings.T
    others = np.array([cosines[i][np.array(names) != name].max() for i, name in enumerate(names)])
    for rate in (0.01, 0.1, 0.5):
        share = np.mean(others > index.threshold(rate) + 1e-6)
        assert rate - 2 / len(names) <= share <= rate  # nearest others come in pairs
    assert index.threshold(0.001) is None  # 120 images cannot tell


def test_an_index_is_read_back_and_another_model_is_refused(tmp_path, model):
    embeddings, _, index = random_index()
    index.save(tmp_path / "i.npz")
    again = read_index(tmp_path / "i.npz")
    assert again.search(embeddings[3], 3) == index.search(embeddings[3], 3)
    assert again.threshold(0.1) == index.threshold(0.1)
    with pytest.raises(ValueError, match=r"was made with another model \(m\) than .* Enroll again"):
        again.check_model(model)
    with pytest.raises(ValueError, match=r"expected one of shape \[8\], as in the index, found \[3\]"):
        again.search(np.ones(3))


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 no zip", {"embeddings": np.ones((2, 3))}, {"names": np.array([{}], dtype=object)}],
)
def test_a_file_that_is_no_index_is_refused(tmp_path, content):
    path = tmp_path / "i.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **{"names": np.array(["a"]), **content}, allow_pickle=True)
    with pytest.raises(ValueError, match=r"is not an index of people \(.*`ppfacerec infer enroll`"):
        read_index(path)


@pytest.mark.slow
def test_clusters_are_the_people(tmp_path, weights, people, capsys):
    pytest.importorskip("sklearn")
    out = tmp_path / "c.csv"
    assert main(["infer", "cluster", str(people), "--model", weights, "--threshold", "0.95", "--out", str(out)]) == 0
    with open(out) as file:
        rows = list(csv.DictReader(file))
    by_person = {row["image"].split("/")[-2]: set() for row in rows}
    for row in rows:
        by_person[row["image"].split("/")[-2]].add(row["cluster"])
    assert all(len(clusters) == 1 for clusters in by_person.values())
    assert len(set.union(*by_person.values())) == 4


def test_larger_clusters_have_lower_numbers():
    pytest.importorskip("sklearn")
    directions = np.eye(3, dtype=np.float32)
    assert cluster(directions[[0, 1, 1, 2, 1, 2]], 0.5).tolist() == [2, 0, 0, 1, 0, 1]
    assert cluster(directions[:1], 0.5).tolist() == [0]
    with pytest.raises(ValueError, match="20001 images are too many"):
        cluster(np.zeros((20_001, 1)), 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colors": "BRG"}, "info: colors: expected RGB or BGR, found 'BRG'"),
        ({"coulors": "BGR"}, r"info: unknown key 'coulors'\. Did you mean 'colors'\?"),
        ({"embedding_size": True}, "embedding_size: expected a positive int"),
        ({"mean": [0.5]}, "mean: expected 3 numbers"),
        ({"scale": "1/255"}, "scale: expected a number"),
        ({"backbone": "TinyNet"}, "backbone: expected a mapping with the network's name"),
        ({"thresholds": {"lfw": {"1e-3": 0.5}}}, r"thresholds: expected \{set: \{FAR:"),
        ({"thresholds": {"lfw": 1}}, r"thresholds: expected \{set: \{FAR:"),
        ({"flip_test": 1}, "flip_test: expected true or false"),
        ({"licence": 1}, "licence: expected a text or null"),
    ],
)
def test_a_damaged_info_is_named(change, message):
    tree = {**ModelInfo({"name": "X"}, 2).to_tree(), **change}
    with pytest.raises(ValueError, match=message):
        from_tree(tree, "info")


def test_an_info_survives_writing_and_reading(tmp_path):
    info = ModelInfo({"name": "IR18", "embedding_size": 4}, 4, colors="BGR", thresholds={"lfw": {"1e-3": POINT}})
    info.save(tmp_path / "a.info.json")
    assert ppfacerec.__version__
    from ppfacerec.weights.info import read_info

    assert read_info(tmp_path / "a.info.json") == info
    (tmp_path / "a.info.json").write_text("{")
    with pytest.raises(ValueError, match=r"a\.info\.json: expected JSON"):
        read_info(tmp_path / "a.info.json")
