"""Laws of whole runs on every kind of training data, and with bad images in it."""

from __future__ import annotations

import shutil

import numpy as np
import psutil
import pytest
from conftest import jpeg, picture

from ppfacerec.config import load_config
from ppfacerec.datatools.convert import convert
from ppfacerec.engine import Engine
from ppfacerec.engine.build import build_train_loader
from ppfacerec.training.checkpoints.pretrained import read_weights
from ppfacerec.training.trainer import Trainer

DATASET = "DataLoader.Train.dataset"


def train(path, *overrides):
    config, notes = load_config(path, ["Global.eval_during_train=False", *overrides])
    Engine(config, notes).train()
    return read_weights(f"{config.Global.output_dir}/latest")


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_a_record_file_trains_to_the_same_weights_as_its_label_file(tiny_net_config, tiny_data, tmp_path):
    convert(str(tiny_data / "label.txt"), str(tmp_path / "rec" / "train.rec"))
    plain = train(tiny_net_config())
    ops = load_config(tiny_net_config())[0].DataLoader.Train.transform_ops
    record = {"name": "RecordIODataset", "root": str(tmp_path / "rec"),
              "transform_ops": [{op.name: dict(op.kwargs)} for op in ops]}  # fmt: skip
    assert_same(plain, train(tiny_net_config(**{DATASET: record, "Arch.Head.class_num": None})))


def test_a_training_says_who_has_no_image(tiny_net_config, tmp_path, log_lines):
    for name in ("a/1.jpg", "b/1.jpg", "lost/1.tiff"):
        (tmp_path / "people" / name).parent.mkdir(parents=True)
        (tmp_path / "people" / name).write_bytes(jpeg(picture(0, 0)))
    ops = load_config(tiny_net_config())[0].DataLoader.Train.transform_ops
    people = {"name": "ConcatDataset", "datasets": [{"name": "FolderDataset", "root": str(tmp_path / "people")}] * 2,
              "transform_ops": [{op.name: dict(op.kwargs)} for op in ops]}  # fmt: skip
    build_train_loader(load_config(tiny_net_config(**{DATASET: people, "Arch.Head.class_num": None}))[0], tmp_path)
    left_out = "1 files that are not read as images (1 .tiff; first: lost/1.tiff) and 1 folders without an image (lost)"
    assert f"Left out of the training set: {left_out}; {left_out}." in log_lines.text


def test_fine_tuning_with_other_people_names_them(tiny_net_config, tiny_data, tmp_path, log_lines):
    train(tiny_net_config())
    lines = [line.split("\t") for line in (tiny_data / "label.txt").read_text().splitlines()]
    (tmp_path / "rotated.txt").write_text("".join(f"{name}\t{(int(label) + 1) % 5}\n" for name, label in lines))
    train(tiny_net_config(), f"Global.pretrained_model={tmp_path}/output/latest", f"Global.output_dir={tmp_path}/fine",
          f"{DATASET}.cls_label_path={tmp_path}/rotated.txt", "Global.epochs=1")  # fmt: skip
    said = "initialised from scratch; its classes are other identities: 5 of 5 classes are other identities (5 of them had another number): class 0 ("
    assert f"{said}{tmp_path}/rotated.txt, line " in log_lines.text


def test_class_num_is_taken_from_the_data(tiny_net_config, tmp_path, log_lines):
    plain = train(tiny_net_config(**{"Arch.Head.class_num": None}))  # without the key
    assert "Arch.Head.class_num is not set: using the 5 classes of the data." in log_lines.text
    assert_same(plain, train(tiny_net_config(), "Arch.Head.class_num=null"))


def test_relabel_writes_its_map_beside_the_checkpoint(tiny_net_config, tiny_data, tmp_path):
    lines = [line.split("\t") for line in (tiny_data / "label.txt").read_text().splitlines()]
    (tmp_path / "gaps.txt").write_text("".join(f"{name}\t{7 * int(label) + 3}\n" for name, label in lines))
    gaps = f"{DATASET}.cls_label_path={tmp_path}/gaps.txt"
    plain = train(tiny_net_config())
    assert_same(plain, train(tiny_net_config(), gaps, f"{DATASET}.relabel=True"))
    assert (tmp_path / "output" / "label_map.txt").read_text() == "0\t3\n1\t10\n2\t17\n3\t24\n4\t31\n"


@pytest.fixture
def damaged(tiny_data, tmp_path):
    """tiny_data with an empty, a truncated and a missing image, and one that is none; first and last are good."""
    root = tmp_path / "damaged"
    shutil.copytree(tiny_data, root)
    images = sorted((root / "images").iterdir())
    images[3].write_bytes(b"")
    images[7].write_bytes(images[7].read_bytes()[:500])
    images[8].write_bytes(b"no image")
    images[12].unlink()
    return [f"{DATASET}.image_root={root}", "DataLoader.Train.loader.on_bad_image=skip"]


def test_a_run_with_bad_images_lists_them_and_does_not_depend_on_the_workers(tiny_net_config, damaged, tmp_path):
    alone = train(tiny_net_config(), *damaged)
    listed = (tmp_path / "output" / "bad_images.txt").read_text().splitlines()
    assert len(listed) == 4
    for number, reason in ((4, "0 bytes"), (8, "the JPEG is truncated"), (9, "8 bytes"), (13, "cannot read")):
        assert any(f"line {number} (" in line and reason in line for line in listed)
    assert_same(alone, train(tiny_net_config(), *damaged, "DataLoader.Train.loader.num_workers=2"))
    assert len((tmp_path / "output" / "bad_images.txt").read_text().splitlines()) == 4


def test_too_many_bad_images_end_a_run(tiny_net_config, damaged):
    with pytest.raises(
        ValueError, match=r"More than max_bad_images \(2\) training images cannot be used\. They are listed in"
    ):
        train(tiny_net_config(), *damaged, "DataLoader.Train.loader.max_bad_images=2")


@pytest.mark.parametrize("persistent", [True, False])
def test_a_run_leaves_no_worker(tiny_net_config, persistent):
    before = set(psutil.Process().children(recursive=True))
    train(
        tiny_net_config(),
        "DataLoader.Train.loader.num_workers=2",
        f"DataLoader.Train.loader.persistent_workers={persistent}",
    )
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_killed_worker_ends_the_run(tiny_net_config, monkeypatch):
    forward_backward = Trainer._forward_backward

    def killing(self, *arguments):
        for process in self.loader._pool._processes:
            process.kill()
        return forward_backward(self, *arguments)

    monkeypatch.setattr(Trainer, "_forward_backward", killing)
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(ValueError, match=r"Data worker \d of 2 \(process \d+\) was terminated by SIGKILL"):
        train(tiny_net_config(), "DataLoader.Train.loader.num_workers=2")
    assert set(psutil.Process().children(recursive=True)) <= before


def test_labels_out_of_all_proportion_need_a_word(tiny_net_config, tiny_data, tmp_path):
    lines = (tiny_data / "label.txt").read_text().splitlines()
    (tmp_path / "label.txt").write_text("\n".join([*lines[:-1], lines[-1].split("\t")[0] + "\t2147483647"]))
    config = tiny_net_config(**{
        "DataLoader.Train.dataset.cls_label_path": str(tmp_path / "label.txt"),
        "Arch.Head": {"name": "ArcMargin", "embedding_size": 16},
    })  # fmt: skip
    with pytest.raises(
        ValueError, match=r"The labels go up to 2147483647, but there are only 20 images: .* dataset\.relabel: True"
    ):
        Engine(*load_config(config)).train()
