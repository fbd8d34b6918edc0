"""Laws of embedding many images: the same bytes on any number of processes, and nothing is done twice."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from conftest import picture
from launching import ROOT, launch
from test_machines_without_a_shared_disk import Machines

from ppfacerec.backbones import MobileFaceNet
from ppfacerec.cli import main
from ppfacerec.export.convert_weights import write_pdparams
from ppfacerec.inference import embedding_parts
from ppfacerec.inference.embedding_parts import embed_in_parts
from ppfacerec.inference.face_model import FaceModel, load
from ppfacerec.weights.info import ModelInfo


@pytest.fixture
def world(tmp_path):
    """Weights, and 40 images in folders of which one cannot be read."""
    net = MobileFaceNet()
    net.eval()
    write_pdparams(tmp_path / "net.pdparams", {f"backbone.{k}": v.numpy() for k, v in net.state_dict().items()})
    for number in range(40):
        path = tmp_path / "faces" / str(number % 5) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture(number % 5, number))
    (tmp_path / "faces" / "2" / "7.png").write_bytes(b"no image")
    return tmp_path


def arguments(world, out):
    return ["infer", "embed", str(world / "faces"), "--model", str(world / "net.pdparams"), "--batch-size", "2",
            "--out", str(out)]  # fmt: skip


@pytest.mark.slow
def test_one_two_and_three_processes_write_the_same_bytes(world):
    contents = []
    for number in (1, 2, 3):
        out = world / f"out{number}.npz"
        script = str(ROOT / "tools" / "infer.py")
        said = launch(number, script, *arguments(world, out)[1:], log_dir=world / f"log{number}")
        assert "39 of 40 images are used, 1 left out" in said
        contents.append(out.read_bytes())
        assert not (world / f"out{number}.npz.parts").exists()
    assert contents[0] == contents[1] == contents[2]


class Counting:
    """A model whose embedding is the mean colour, and who counts its images."""

    def __init__(self):
        self.count = 0

    def __call__(self, images):
        self.count += len(images)
        return images.reshape(len(images), -1, 3).mean(axis=1).astype(np.float32)


def test_parts_that_are_there_are_not_made_again_unless_their_images_changed(world, log_lines):
    run = Counting()
    model = FaceModel(run, ModelInfo({"name": "X"}, 3, flip_test=False), "x")
    paths = sorted((world / "faces").rglob("*.png"))
    first = embed_in_parts(model, paths, 2, world / "parts")
    assert (len(first.files), len(first.problems)) == (39, 1)
    run.count = 0
    (world / "parts" / "000001.npz").unlink()
    cv2.imwrite(str(paths[-1]), picture(1, 99))
    again = embed_in_parts(model, paths, 2, world / "parts")
    assert "1 of 3 parts are complete from an earlier run" in log_lines.text
    assert run.count - 2 * 1 <= 16 + 8  # two parts, and the pictures that tell the model
    np.testing.assert_array_equal(again.embeddings[:-1], first.embeddings[:-1])
    assert not np.array_equal(again.embeddings[-1], first.embeddings[-1])


@pytest.mark.slow
def test_a_killed_run_goes_on(world, monkeypatch):
    write, calls = embedding_parts.atomic_write, []

    def killed(path, **rest):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(path, **rest)

    model, paths = load(world / "net.pdparams"), sorted((world / "faces").rglob("*.png"))
    monkeypatch.setattr(embedding_parts, "atomic_write", killed)
    with pytest.raises(KeyboardInterrupt):
        embed_in_parts(model, paths, 2, world / "parts")
    found = embed_in_parts(model, paths, 2, world / "parts")
    assert len(calls) == 2 + 2  # the first part stays
    np.testing.assert_array_equal(found.embeddings, model.embed_files(paths, 2)[1])


@pytest.mark.slow
def test_without_a_shared_disk_the_parts_travel_to_rank_0(world):
    assert main(arguments(world, world / "whole.npz")) == 0
    machines = Machines(world / "unused.yaml", world / "machines")
    said = machines.run(tool="infer.py", arguments=[*arguments(world, "out.npz")[1:]])
    assert "39 embeddings of 128 numbers" in said[0]
    assert (machines.folders[0] / "out.npz").read_bytes() == (world / "whole.npz").read_bytes()
    assert not (machines.folders[1] / "out.npz").exists()


@pytest.mark.slow
def test_a_command_that_does_not_split_says_so_and_works_once(world):
    said = launch(
        2, str(ROOT / "tools" / "infer.py"), "enroll", str(world / "faces"), "--model", str(world / "net.pdparams"),
        "--index", str(world / "people.npz"), log_dir=world / "log",
    )  # fmt: skip
    assert said.count("This command does not split its work over processes: rank 0 does all of it.") >= 1
    assert said.count("people.npz, 5 people") == said.count("Written: ")
