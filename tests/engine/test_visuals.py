"""Laws of what VisualDL shows: the records of a run by tag and step, each start for itself, no change of training."""

from __future__ import annotations

import cv2
import numpy as np
import paddle
import pytest
from test_training import assert_same_checkpoint, rows, train

from ppfacerec.data.loading.loader import Batch
from ppfacerec.engine import TrainingStopped
from ppfacerec.heads import ArcMargin
from ppfacerec.heads.sharding import ClassShard
from ppfacerec.training.monitoring.distributions import head_statistics, some_values, watched_parameters
from ppfacerec.training.trainer import Trainer

pytestmark = pytest.mark.slow

pytest.importorskip("visualdl")

WATCHED = ["backbone.features.0.weight", "backbone.features.3.weight", "backbone.fc.weight", "head.weight"]
VISUALDL = "Global.use_visualdl=True"
ONE_EPOCH = ["Global.epochs=1", "Optimizer.lr.warmup_epoch=0"]


def records(output, number=0):
    """(kind, tag) -> the records of one start that VisualDL shows; all starts in the order of time."""
    from visualdl import LogReader

    path = sorted((output / "vdl").glob("*/*"), key=lambda path: path.stat().st_mtime)[number]
    reader = LogReader(file_path=str(path))
    return {(kind, tag): reader.get_data(kind, tag) for kind, tags in reader.get_tags().items() for tag in tags}


def steps(output, number=0):
    found = records(output, number)
    assert found.pop(("meta_data", "meta_data_tag"))
    return {key: [record.id for record in value] for key, value in found.items()}


def test_a_run_is_shown_by_tags_and_steps(tiny_net_config, tmp_path, log_lines):
    train(tiny_net_config(), VISUALDL, "Global.epochs=2", "Global.print_batch_step=2", "Global.eval_before_train=True")
    every, logged, evaluated = list(range(1, 11)), [1, 3, 5, 6, 8, 10], [0, 5, 10]
    scalars = {f"train/{name}": logged for name in ("lr", "CELoss", "loss", "batch_cost", "reader_cost", "ips", "eta")}
    scalars |= {f"eval/{name}": evaluated for name in ("lfw", "cfp_fp", "average")}
    images = {
        f"eval/{name}_{kind}": evaluated for name in ("lfw", "cfp_fp") for kind in ("false_accepts", "false_rejects")
    }
    images |= {"eval/roc": evaluated, "train/batch": [1], "eval/lfw_people": [0], "eval/cfp_fp_people": [0]}
    head = [f"head/{name}" for name in ("embedding_norms", "target_cosines", "other_cosines")]
    histograms = [f"{kind}/{name}" for kind in ("weights", "gradients") for name in WATCHED]
    expected = {
        **{("scalar", tag): at for tag, at in scalars.items()},
        **{("image", tag): at for tag, at in images.items()},
        **{("histogram", tag): every for tag in [*head, *histograms]},
        **{("embeddings", f"{name}/step_{step}"): [0] for name in ("lfw", "cfp_fp") for step in evaluated},
        ("hyper_parameters", "hparam"): [1],
    }
    assert steps(tmp_path / "output") == expected
    assert "VisualDL" not in log_lines.text


def test_what_is_shown_are_the_numbers_of_the_tables(tiny_net_config, tmp_path):
    train(tiny_net_config(), VISUALDL, "Global.epochs=2")
    found = records(tmp_path / "output")
    for tag, row, column in (("train/loss", "train.csv", "loss"), ("eval/average", "eval.csv", "average")):
        expected = [(int(r["global_step"]), float(r[column])) for r in rows(tmp_path / "output" / row)]
        shown = [(record.id, record.value) for record in found["scalar", tag]]
        assert shown == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]
    (hparam,) = found["hyper_parameters", "hparam"]
    values = {i.name: getattr(i, i.WhichOneof("type")) for i in hparam.hparam.hparamInfos}
    assert values["backbone"] == "TinyNet"
    assert values["head_margin"] == pytest.approx(0.2)
    assert (values["lr_learning_rate"], values["epochs"]) == (pytest.approx(0.002), 2)
    assert (values["total_batch"], values["images"], values["classes"]) == (4, 20, 5)
    assert not [name for name in values if "." in name]  # of which VisualDL's table shows nothing
    metrics = [info.name for info in hparam.hparam.metricInfos]
    assert metrics == ["eval/average", "eval/lfw", "eval/cfp_fp", "train/loss"]
    assert all(("scalar", name) in found for name in metrics)


def test_the_pictures_are_of_the_right_images(tiny_net_config, tmp_path):
    train(tiny_net_config(), VISUALDL, *ONE_EPOCH, "DataLoader.Eval.dataset.val_targets=[lfw]")
    found = records(tmp_path / "output")

    def picture(tag):
        data = found["image", tag][-1].image.encoded_image_string
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)

    assert picture("train/batch").shape == (112 + 26 + 6, 4 * 118 + 6, 3)
    assert picture("eval/lfw_false_accepts").shape == (3 * 138 + 6, 4 * 230 + 6, 3)  # 10 pairs
    (points,) = found["embeddings", "lfw/step_5"]
    assert list(points.embeddings.label_meta) == ["person", "colour", "image"]
    vectors = np.array([point.vectors for point in points.embeddings.embeddings])
    assert vectors.shape == (40, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_visualdl_changes_no_weight(tiny_net_config, tmp_path):
    for name, *extra in (("on", VISUALDL), ("off",)):
        train(
            tiny_net_config(), *extra, f"Global.output_dir={tmp_path}/{name}", "Global.epochs=2",
            "Arch.Head.sample_rate=0.5", "Global.update_freq=2", "EMA.decay=0.9",
        )  # fmt: skip
    assert_same_checkpoint(tmp_path / "on" / "latest", tmp_path / "off" / "latest")
    assert not (tmp_path / "off" / "vdl").exists()
    gradients = [
        tag for kind, tag in steps(tmp_path / "on") if kind == "histogram" and tag.startswith("gradients/head")
    ]
    assert gradients == ["gradients/head.active_rows"]  # what sparse_update trains


def test_every_start_is_a_run_that_begins_where_it_resumes(tiny_net_config, tmp_path, monkeypatch):
    common = [VISUALDL, "Global.epochs=3", "DataLoader.Eval.dataset.val_targets=[lfw]"]
    original = Trainer._step

    def stop_at_8_and_10(trainer):  # in the middle of an epoch, and at its end before the evaluation
        original(trainer)
        trainer.callbacks[0].wants_stop = trainer.state.progress.global_step in (8, 10)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", stop_at_8_and_10)
        for resume in ((), ("Global.checkpoints=auto",)):
            with pytest.raises(TrainingStopped):
                train(tiny_net_config(), *common, *resume)
    train(tiny_net_config(), *common, f"Global.checkpoints={tmp_path}/output/latest")
    starts = [steps(tmp_path / "output", number) for number in range(3)]
    assert [start["scalar", "train/loss"] for start in starts] == [[*range(1, 9)], [9, 10], [*range(11, 16)]]
    assert [start.get(("scalar", "eval/lfw")) for start in starts] == [[5], None, [10, 15]]
    names = [folder.name for folder in (tmp_path / "output/vdl").iterdir()]
    assert sorted(int(name.partition("_step_")[2]) for name in names) == [0, 8, 10]


def test_no_faces_are_shown_when_they_are_not_wanted(tiny_net_config, tmp_path):
    train(tiny_net_config(), VISUALDL, "Global.visualdl_faces=False", *ONE_EPOCH)
    assert [tag for kind, tag in steps(tmp_path / "output") if kind == "image"] == ["eval/roc"]


def test_a_run_without_evaluation_is_shown_too(tiny_net_config, tmp_path):
    train(tiny_net_config(), VISUALDL, "Global.eval_during_train=False", *ONE_EPOCH)
    found = records(tmp_path / "output")
    assert not [tag for _, tag in found if tag.startswith("eval/")]
    assert [i.name for i in found["hyper_parameters", "hparam"][0].hparam.metricInfos] == ["train/loss"]


def test_a_picture_that_fails_ends_no_training_and_is_said_once(tiny_net_config, tmp_path, monkeypatch, log_lines):
    from ppfacerec.training.monitoring import visuals

    def fail(*args):
        raise OSError("no paper")

    monkeypatch.setattr(visuals, "pair_sheet", fail)
    assert list(train(tiny_net_config(), VISUALDL, "Global.epochs=2")) == [1, 2]
    assert log_lines.text.count("VisualDL: a record could not be written (OSError: no paper)") == 1
    assert steps(tmp_path / "output")["image", "eval/roc"] == [5, 10]


def test_without_visualdl_a_run_is_the_same_but_for_the_records(tiny_net_config, tmp_path, monkeypatch, log_lines):
    import sys

    monkeypatch.setitem(sys.modules, "visualdl", None)
    assert list(train(tiny_net_config(), VISUALDL, "Global.epochs=2")) == [1, 2]
    assert log_lines.text.count("To install it: pip install visualdl. Training goes on without it.") == 1
    assert not (tmp_path / "output" / "vdl").exists()


def test_histograms_are_spread_over_the_training(tiny_net_config, tmp_path, monkeypatch):
    from ppfacerec.training.monitoring import visuals

    monkeypatch.setattr(visuals, "NUM_HISTOGRAMS", 5)
    train(tiny_net_config(), VISUALDL, "Global.epochs=4", "Global.eval_during_train=False")
    for tag in ("weights/head.weight", "head/target_cosines"):
        assert steps(tmp_path / "output")["histogram", tag] == [1, 4, 8, 12, 16, 20]


@pytest.mark.parametrize("shard", [ClassShard(7), ClassShard(7, 1, 2)], ids=["whole", "second half"])
@pytest.mark.parametrize("num_sub_centers", [1, 3])
def test_cosines_are_those_of_the_plain_formula(shard, num_sub_centers):
    rng = np.random.default_rng(0)
    head = ArcMargin(6, 7, num_sub_centers=num_sub_centers)
    weight = rng.normal(size=(shard.size * num_sub_centers, 6)).astype(np.float32)
    head.shard, head.weight = shard, paddle.base.framework.EagerParamBase.from_tensor(paddle.to_tensor(weight))
    embedding, labels = rng.normal(size=(5, 6)).astype(np.float32), np.array([0, 6, 5, 4, 2])
    batch = Batch(paddle.zeros([1]), paddle.to_tensor(labels), np.arange(5))
    found = head_statistics(head, batch, paddle.to_tensor(embedding))
    own, others = [], []
    for row, label in zip(embedding.astype(np.float64), labels):
        for k in range(shard.size):
            centres = weight[k * num_sub_centers : (k + 1) * num_sub_centers].astype(np.float64)
            cosine = max(row @ c / np.linalg.norm(row) / np.linalg.norm(c) for c in centres)
            (own if shard.start + k == label else others).append(cosine)
    np.testing.assert_allclose(found["head/target_cosines"], own, atol=1e-6)
    np.testing.assert_allclose(found["head/other_cosines"], others, atol=1e-6)
    np.testing.assert_allclose(found["head/embedding_norms"], np.linalg.norm(embedding, axis=1), rtol=1e-6)


def test_a_large_tensor_is_counted_by_rows_spread_over_it():
    tensor = paddle.arange(1_000_000, dtype="float32").reshape([1000, 1000])
    values = some_values(tensor)
    assert len(values) == 100_000
    assert values[-1] == 990_999
    assert len(some_values(paddle.zeros([1, 300_000]))) == 300_000  # a row is never cut


def test_the_watched_weights_are_first_middle_last_and_the_heads():
    import tiny_plugin

    from ppfacerec.recognizer import FaceRecognizer

    assert list(watched_parameters(FaceRecognizer(tiny_plugin.TinyNet(), ArcMargin(16, 5)))) == WATCHED
