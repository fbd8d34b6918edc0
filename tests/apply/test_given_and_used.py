"""What is given to a model is checked, what is left out is said, and what does not look right is noticed."""

from __future__ import annotations

import csv
import io
import os
import shutil

import numpy as np
import paddle
import pytest
from conftest import jpeg, picture
from tiny_plugin import TinyNet

import ppfacerec
from ppfacerec.cli import main
from ppfacerec.data.transforms.images import decode_rgb
from ppfacerec.export.convert_weights import write_pdparams
from ppfacerec.inference.clusters import cluster
from ppfacerec.inference.image_files import find_images, read_image
from ppfacerec.inference.people_index import PeopleIndex, read_index
from ppfacerec.weights.info import ModelInfo, info_path

POINT = {"cosine": 0.8, "tar": 0.9, "num_different": 300.0}


def save(path, change=lambda state: None):
    paddle.seed(0)
    state = {k: v.numpy() for k, v in TinyNet().state_dict().items()}
    change(state)
    write_pdparams(path, state)
    ModelInfo({"name": "TinyNet"}, 16, thresholds={"lfw": {"1e-2": POINT}}).save(info_path(path))
    return str(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save(tmp_path_factory.mktemp("model") / "w.pdparams")


@pytest.fixture(scope="module")
def model(weights):
    return ppfacerec.load(weights)


def test_a_model_that_knows_itself_needs_no_config_beside_it(tmp_path):
    """Whoever trained it with a callback of his own embeds where that is not installed."""
    weights = save(tmp_path / "w.pdparams")
    (tmp_path / "config.yaml").write_text("Global: {plugins: [not_here]}\n")
    assert ppfacerec.load(weights).embed(face(0)).shape == (16,)
    ModelInfo({"name": "MyNet"}, 16).save(info_path(tmp_path / "w.pdparams"))
    message = r"w\.pdparams: the network described beside it cannot be built: backbone: unknown backbone 'MyNet'.*import its module"
    with pytest.raises(ValueError, match=message):
        ppfacerec.load(weights)


def face(number):
    """Looks like an aligned RGB face to a very coarse eye: skin, and dark where the eyes are."""
    image = np.full((112, 112, 3), (200, 150, 120), np.int16)
    for x in (38, 73):
        image[46:58, x - 9 : x + 9] = 40
    image += np.random.default_rng(number).integers(-20, 20, image.shape, np.int16)
    return image.astype(np.uint8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.__setitem__((0, 0), np.nan), r"1 of [\d,]+ numbers of 'backbone.fc.weight' are NaN or infinite"),
        (lambda a: a.__setitem__((0, 0), np.inf), r"1 of [\d,]+ numbers of 'backbone.fc.weight' are NaN or infinite"),
    ],
)
def test_weights_that_are_not_finite_are_refused(tmp_path, capsys, change, message):
    path = save(tmp_path / "w.pdparams", lambda state: change(state["fc.weight"]))
    with pytest.raises(ValueError, match=message):
        ppfacerec.load(path)


@pytest.mark.parametrize(
    ("dtype", "scale", "message"),
    [
        ("float64", 1e300, "are NaN or infinite as float32"),
        ("int8", 1, "is an array of int8"),
        ("bool", 1, "array of bool"),
    ],
)
def test_weights_are_checked_after_the_cast_and_integers_are_not_cast(tmp_path, dtype, scale, message):
    def change(state):
        state["fc.weight"] = (state["fc.weight"].astype("float64") * scale).astype(dtype)

    with pytest.raises(ValueError, match=message):
        ppfacerec.load(save(tmp_path / "w.pdparams", change))


def test_negative_variances_are_refused(tmp_path):
    def change(state):
        state["x._variance"] = np.full(3, -1, np.float32)

    with pytest.raises(ValueError, match="has negative variances"):
        ppfacerec.load(save(tmp_path / "w.pdparams", change))


def test_every_form_of_an_image_gives_the_same_embedding(tmp_path, model):
    image_module = pytest.importorskip("PIL.Image")
    encoded = jpeg(face(0))
    (tmp_path / "a.jpg").write_bytes(encoded)
    pixels = decode_rgb(encoded, "a")
    expected = model.embed(encoded)
    forms = [tmp_path / "a.jpg", bytearray(encoded), io.BytesIO(encoded), image_module.fromarray(pixels), pixels]
    for form in forms:
        np.testing.assert_allclose(model.embed(form), expected, atol=1e-6)
    np.testing.assert_allclose(model.embed(pixels for _ in range(2)), [expected] * 2, atol=1e-6)
    grey = pixels[..., 0]
    np.testing.assert_allclose(model.embed(grey), model.embed(np.dstack([grey] * 3)), atol=1e-6)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m: m.embed([face(0)], batch_size=-1), "batch_size: expected a whole number of at least 1, found -1"),
        (lambda m: m.embed_files([], batch_size=0), "batch_size: expected a whole number of at least 1, found 0"),
        (lambda m: ppfacerec.load(m.name, device="cuda:1"), "device: expected auto, cpu or gpu, found 'cuda:1'"),
        (lambda m: m.threshold(2), "far: expected a false accept rate between 0 and 1"),
        (lambda m: m.compare(face(0), face(1), threshold="0.4"), "threshold: expected a cosine from -1 to 1"),
        (lambda m: m.compare(face(0), face(1), threshold=float("nan")), "threshold: expected a cosine from -1 to 1"),
        (lambda m: index().search(10 * np.eye(4)[0]), "expected finite embeddings of length 1, found lengths from 10"),
        (lambda m: index().search(np.full(4, np.nan)), "expected finite embeddings of length 1"),
        (lambda m: index().search(np.eye(4)[0], top=-1), "top: expected a whole number of at least 1, found -1"),
        (lambda m: index().threshold(2), "stranger_rate: expected a number between 0 and 1"),
        (lambda m: PeopleIndex(2 * np.eye(4), "abcd", "abcd", np.eye(4)[0], "m"), "embeddings: expected finite"),
        (lambda m: cluster(3 * np.eye(4), 0.4), "embeddings: expected finite embeddings of length 1"),
        (lambda m: cluster(np.eye(4), float("nan")), "threshold: expected a cosine"),
        (lambda m: m.embed(None), "images: expected a path, .* in an iterable, found None"),
        (lambda m: m.embed(3), "images: expected a path, .* in an iterable, found 3"),
        (lambda m: m.embed(np.array(3)), r"images: expected a path, .* found int64 \[\]"),
        (lambda m: m.embed(np.zeros((112, 112, 3), np.uint8)), "image 0: the whole image is one shade, 0 of 255"),
        (lambda m: m.compare(face(0), face(1), threshold=np.array([0.4])), "threshold: expected a cosine from -1 to 1"),
        (lambda m: m.threshold([1e-3]), "far: expected a false accept rate between 0 and 1"),
        (lambda m: ppfacerec.load(None), "name: expected a path, a model name or an https URL, found None"),
        (lambda m: ppfacerec.load(3), "name: expected a path, a model name or an https URL, found 3"),
        (lambda m: index().search(np.eye(4)[:1]), r"expected one of shape \[4\], as in the index, found \[1, 4\]"),
        (lambda m: index().threshold("0.1"), "stranger_rate: expected a number between 0 and 1"),
        (lambda m: index(nearest_others=[np.nan] * 4), "nearest_others: expected cosines"),
        (lambda m: index(probe=np.eye(3)[0]), r"probe: expected shape \[4\], found \[3\]"),
    ],
)
def test_python_functions_check_what_the_command_line_checks(model, ask, message):
    with pytest.raises(ValueError, match=message):
        ask(model)


def index(**changed):
    return PeopleIndex(np.eye(4), list("abcd"), list("abcd"), **{"probe": np.eye(4)[0], "model": "m", **changed})


def test_one_path_is_a_list_of_one(model, tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(face(0)))
    files, embeddings, bad = model.embed_files(str(tmp_path / "a.jpg"))
    assert files == find_images(str(tmp_path)) == [tmp_path / "a.jpg"]
    assert len(embeddings) == 1 and not bad


def test_numbers_that_overflow_in_an_index_are_refused(tmp_path):
    index().save(tmp_path / "i.npz")
    arrays = dict(np.load(tmp_path / "i.npz"))
    arrays["embeddings"] = arrays["embeddings"].astype("float64") * 1e300
    np.savez(tmp_path / "i.npz", **arrays)
    with pytest.raises(ValueError, match="is not an index of people .*expected finite embeddings of length 1"):
        read_index(tmp_path / "i.npz")


def test_one_person_under_two_names_is_found_and_does_not_move_the_threshold():
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(size=(40, 64)), 5, axis=0)
    rows = centres + 0.3 * rng.normal(size=centres.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [f"p{i // 5:02d}" for i in range(200)]
    alone = PeopleIndex(rows, names, names, rows[0], "m")
    copied = PeopleIndex(np.r_[rows, rows[:5]], [*names, *["twin"] * 5], [*names, *names[:5]], rows[0], "m")
    assert alone.same_people == []
    assert copied.same_people == [("p00", "twin")]
    assert copied.threshold(0.02) == pytest.approx(alone.threshold(0.02), abs=0.1)
    assert copied.threshold(0.02) < 0.9


def test_images_that_are_no_aligned_rgb_faces_are_said_once(model, log_lines):
    faces = [face(k) for k in range(10)]
    model.embed(faces)
    assert log_lines.text == ""
    model.embed([np.roll(image, 24, axis=0) for image in faces], batch_size=3)
    model.embed([image[..., ::-1].copy() for image in faces])
    unaligned, blue = (record.getMessage() for record in log_lines.records)
    assert unaligned.startswith("In 10 of 10 images the eye positions are not darker than their surroundings")
    assert blue.startswith("In 10 of 10 images the skin is blue; are red and blue swapped?")


def test_enrolment_says_who_is_lost_who_is_twice_and_what_was_left_out(tmp_path, weights, capsys):
    people = tmp_path / "people"
    for person in ("anna", "bo", "lost", ".ipynb_checkpoints", "empty"):
        (people / person).mkdir(parents=True)
    for number in range(3):
        (people / "anna" / f"{number}.jpg").write_bytes(jpeg(picture(0, number)))
        (people / "bo" / f"{number}.jpg").write_bytes(jpeg(picture(1, number)))
    shutil.copytree(people / "anna", people / "anna again")
    (people / "lost" / "1.jpg").write_bytes(b"junk")
    (people / "lost" / "2.tiff").write_bytes(b"junk")
    (people / ".ipynb_checkpoints" / "1.jpg").write_bytes(jpeg(picture(5, 0)))
    assert main(["infer", "enroll", str(people), "--index", str(tmp_path / "p.npz"), "--model", weights]) == 0
    said = capsys.readouterr().out
    assert (
        "1 files that are not read as images (1 .tiff; first: lost/2.tiff) and 1 folders without an image (empty)"
        in said
    )
    assert "People without a usable image: lost." in said
    assert "9 of 10 images are used, 1 left out." in said
    assert "Names that probably belong to one person (a copied folder?): anna = anna again." in said
    assert "3 people, 9 images" in said
    assert (tmp_path / "p.npz").stat().st_mode & 0o777 == 0o600


def test_a_flat_folder_of_lfws_names_is_said_with_its_people(tmp_path, weights, capsys):
    for number in range(4):
        (tmp_path / f"Tony_Blair_{number:04d}.jpg").write_bytes(jpeg(picture(0, number)))
    (tmp_path / "bo.jpg").write_bytes(jpeg(picture(1, 0)))
    assert main(["infer", "enroll", str(tmp_path), "--index", str(tmp_path / "p.npz"), "--model", weights]) == 0
    said = capsys.readouterr().out
    assert "not in a person's folder: 5. The person is the file name" in said and "(Tony_Blair: 4, bo: 1)" in said


def test_cluster_says_its_threshold_and_writes_no_formulas(tmp_path, weights, capsys, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        (tmp_path / f"=cmd{number}.jpg").write_bytes(jpeg(picture(0, number)))
    images = [f"=cmd{number}.jpg" for number in range(3)]
    assert main(["infer", "cluster", *images, "--model", weights, "--out", "c.csv"]) == 0
    said = capsys.readouterr().out
    assert "has enough pairs for a FAR of 1e-3; using the next larger FAR" in said
    assert "while their mean cosine is above this: threshold 0.800: at most 1 in 100 pairs of different people" in said
    assert [row["image"] for row in csv.DictReader((tmp_path / "c.csv").read_text().splitlines())] == [
        f"./=cmd{n}.jpg" for n in range(3)
    ]


@pytest.mark.parametrize("out", ["e.csv", "e.npy", "e.parquet", "e"])
def test_embeddings_go_to_npz_or_nowhere(tmp_path, weights, capsys, out):
    (tmp_path / "a.jpg").write_bytes(jpeg(face(0)))
    arguments = ["infer", "embed", str(tmp_path / "a.jpg"), "--model", weights, "--out", str(tmp_path / out)]
    assert main(arguments) == 1
    assert f"{out}: expected a name that ends in .npz" in capsys.readouterr().out
    assert not (tmp_path / out).exists()


@pytest.mark.parametrize(
    ("arguments", "suffix"),
    [
        (["infer", "cluster", "people", "--out"], ".csv"),
        (["infer", "enroll", "people", "--index"], ".npz"),
        (["make-bin", "--root", "people", "--num-pairs", "2", "--folds", "1", "--out"], ".bin"),
    ],
)
def test_no_format_is_written_under_the_name_of_another(tmp_path, weights, capsys, monkeypatch, arguments, suffix):
    monkeypatch.chdir(tmp_path)
    for name in ("a/0.jpg", "a/1.jpg", "b/0.jpg", "b/1.jpg"):
        (tmp_path / "people" / name[0]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "people" / name).write_bytes(jpeg(face(ord(name[0]))))
    assert main([*arguments, "x.xlsx", *(["--model", weights] if arguments[0] == "infer" else [])]) == 1
    assert f"x.xlsx: expected a name that ends in {suffix}" in capsys.readouterr().out
    assert not (tmp_path / "x.xlsx").exists()


def test_pil_images_count_as_their_files_do(model):
    """Hidden colours do not count, 12-bit data keep their contrast."""
    from PIL import Image

    hidden = np.dstack([face(0), np.zeros((112, 112), np.uint8)])
    assert not read_image(Image.fromarray(hidden), "x").any()
    deep = read_image(Image.fromarray(face(0)[:, :, 1].astype(np.uint16) * 16), "x")
    np.testing.assert_array_equal(deep[:, :, 0], face(0)[:, :, 1])


def test_an_array_with_its_colours_first_is_not_taken_for_three_grey_images(model):
    with pytest.raises(ValueError, match=r"shape \[3, 112, 112\] has its channels first"):
        model.embed(np.ascontiguousarray(face(0).transpose(2, 0, 1)))


def test_a_false_accept_rate_is_not_rounded_to_a_measured_one(model):
    with pytest.raises(ValueError, match=r"no measured threshold for a FAR of 0\.014: known are 1e-2"):
        model.threshold(far=0.014)


def test_a_pipe_among_images_is_called_one(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="not a regular file"):
        read_image(find_images([tmp_path / "a.jpg"])[0], "a.jpg")
