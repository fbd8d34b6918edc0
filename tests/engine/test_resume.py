"""Laws of going on: from the newest complete checkpoint, in the same training, and to the same samples."""

from __future__ import annotations

import csv
import dataclasses
import json
import pickle

import numpy as np
import pytest
from training_state import assert_same_checkpoint, differences, training_state

from ppfacerec.config import load_config
from ppfacerec.engine import Engine
from ppfacerec.evaluation.evaluator import Evaluation
from ppfacerec.training.callbacks import Callback
from ppfacerec.training.checkpoints.files.checkpoint_files import clean_up, complete_names, sha256
from ppfacerec.training.checkpoints.files.manifest import Manifest
from ppfacerec.training.checkpoints.files.run_lock import only_run
from ppfacerec.training.checkpoints.resume import find_checkpoint, newest_complete
from ppfacerec.training.checkpoints.run_facts import Pace, config_changes
from ppfacerec.training.state import Progress
from ppfacerec.training.trainer import Trainer
from ppfacerec.weights.info import info_path, read_info

PLAIN = ["Global.eval_during_train=False", "Global.epochs=3"]  # 5 steps an epoch


def train(path, *overrides):
    config, notes = load_config(path, overrides)
    return Engine(config, notes).train()


@pytest.fixture
def trained(tiny_net_config, tmp_path):
    """The folder of a training of two epochs; its newest checkpoint is `latest`, before it epoch_2, step_8, ..."""
    train(tiny_net_config(), *PLAIN, "Global.epochs=2", "Global.save_interval_steps=4")
    return tmp_path / "output"


# auto


def test_auto_with_nothing_there_starts_from_the_beginning_and_says_so(tiny_net_config, tmp_path, log_lines):
    train(tiny_net_config(), *PLAIN, "Global.checkpoints=auto")
    assert f"Global.checkpoints is auto, and {tmp_path}/output has no checkpoint: starting from" in log_lines.text
    train(tiny_net_config(), *PLAIN, f"Global.output_dir={tmp_path}/plain")
    assert_same_checkpoint(tmp_path / "output/latest", tmp_path / "plain/latest")


def test_auto_does_not_write_over_checkpoints_that_are_not_ours(tiny_net_config, tmp_path, log_lines):
    output = tmp_path / "output"
    output.mkdir()
    for name in ("epoch_3", "latest"):
        (output / f"{name}.pdparams").write_bytes(b"PaddleClas's")
    with pytest.raises(
        ValueError, match=r"has epoch_3, latest without a manifest .* Global\.checkpoints=.*epoch_3; to"
    ):
        train(tiny_net_config(), *PLAIN, "Global.checkpoints=auto")
    assert (output / "latest.pdparams").read_bytes() == b"PaddleClas's"
    train(tiny_net_config(), *PLAIN)  # asked for: anew
    assert "has checkpoints of an earlier run (the newest: epoch_3)" in log_lines.text


def with_changes(prefix, **changes):
    manifest = dataclasses.replace(Manifest.read(prefix), **changes)
    prefix.with_name(f"{prefix.name}.manifest.json").write_text(manifest.to_text())


def test_the_newest_is_the_furthest_of_its_training_whatever_the_clock_says(trained):
    """A clock that was set back by a day; and numbered checkpoints that an earlier training has left there."""
    names = ["epoch_2", "latest", "step_8", "epoch_1", "step_4"]
    for number, name in enumerate(names):
        with_changes(trained / name, saved_at=1e9 + 86400 * number)
    assert list(complete_names(trained)) == names
    with_changes(trained / "epoch_2", run="another", saved_at=1e12)
    assert list(complete_names(trained)) == [*names[1:], "epoch_2"]


def test_the_newest_of_all_is_taken(trained):
    assert list(complete_names(trained)) == ["epoch_2", "latest", "step_8", "epoch_1", "step_4"]
    manifest = trained / "step_4.manifest.json"
    (trained / "epoch_2.pdopt").unlink()  # complete_names reads the manifests only
    assert newest_complete(trained) == trained / "latest"
    assert json.loads(manifest.read_text())["progress"]["global_step"] == 4


def test_best_model_is_not_gone_on_from(tiny_net_config, tmp_path):
    train(tiny_net_config(), "Global.epochs=2", "EMA.decay=0.5")
    assert (tmp_path / "output/best_model.manifest.json").exists()
    assert "best_model" not in complete_names(tmp_path / "output")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [truncate, flip])
@pytest.mark.parametrize("suffix", [".pdparams", ".pdopt", ".pdstates", ".manifest.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(trained, log_lines, suffix, harm):
    victims = [trained / f"{name}{suffix}" for name in ("epoch_2", "latest")]
    for victim in victims:
        harm(victim)
    assert find_checkpoint("auto", trained).prefix == trained / "step_8"
    for victim in victims:
        assert f"is damaged: {victim} is" in log_lines.text


def forge(prefix, suffix, change):
    """Change what a checkpoint's file holds, its manifest being right."""
    path = prefix.with_name(prefix.name + suffix)
    content = pickle.loads(path.read_bytes())
    change(content)
    path.write_bytes(pickle.dumps(content, protocol=4))
    manifest = Manifest.read(prefix)
    entry = {"size": path.stat().st_size, "sha256": sha256(path)}
    changed = dataclasses.replace(manifest, files={**manifest.files, suffix: entry})
    prefix.with_name(f"{prefix.name}.manifest.json").write_text(changed.to_text())


def test_weights_that_are_not_finite_are_not_trained_on(tiny_net_config, trained):
    nothing = {"backbone.fc.bias": np.full(16, np.nan, "float32")}
    for name in ("epoch_2", "latest"):
        forge(trained / name, ".pdparams", lambda weights: weights.update(nothing))
    with pytest.raises(ValueError, match="16 of 16 numbers of 'backbone.fc.bias' are NaN or infinite"):
        train(tiny_net_config(), *PLAIN, "Global.checkpoints=auto")


def test_weights_that_are_not_finite_are_not_saved(tiny_net_config, trained):
    class Diverge(Callback):
        def on_step(self, state):
            if state.progress.global_step == 15:  # the last one
                state.recognizer.backbone.fc.bias.set_value(np.full(16, np.nan, "float32"))

    before = training_state(trained / "latest")
    config, notes = load_config(tiny_net_config(), [*PLAIN, "Global.checkpoints=auto"])
    with pytest.raises(ValueError, match=r"weights are not finite \(backbone.fc.bias\): the training has diverged"):
        Engine(config, notes).train([Diverge()])
    assert differences(training_state(trained / "latest"), before) == []
    assert not list(trained.glob("epoch_3*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["progress"].update(new_idea=1), r"has new_idea, which this version of ppfacerec .* newer one"),
        (lambda s: s.pop("people"), "is damaged: it has no people. Resume from another checkpoint."),
    ],
)
def test_states_of_a_newer_version_or_without_a_part_are_named(tiny_net_config, trained, change, message):
    forge(trained / "latest", ".pdstates", change)
    with pytest.raises(ValueError, match=rf"latest\.pdstates {message}"):
        train(tiny_net_config(), *PLAIN, f"Global.checkpoints={trained}/latest")


def test_a_damaged_checkpoint_that_was_asked_for_is_an_error(trained):
    flip(trained / "latest.pdopt")
    with pytest.raises(ValueError, match=r"latest\.pdopt is not the file that was saved .* auto takes the newest comp"):
        find_checkpoint(f"{trained}/latest", trained)


def test_a_missing_file_is_named_and_the_checkpoint_before_is_used(trained, log_lines):
    (trained / "epoch_2.pdstates").unlink()
    assert find_checkpoint("auto", trained).prefix == trained / "latest"
    assert f"Checkpoint {trained}/epoch_2 is incomplete: {trained}/epoch_2.pdstates is missing." in log_lines.text


def test_nothing_but_damaged_ones_is_an_error_and_nothing_is_overwritten(trained, tiny_net_config):
    for path in trained.glob("*.pdopt"):
        truncate(path)
    (trained / "latest.manifest.json").write_text("{")
    with pytest.raises(
        ValueError, match=r"Global\.checkpoints is auto, but .*output has no complete checkpoint: "
    ) as e:
        train(tiny_net_config(), *PLAIN, "Global.checkpoints=auto")
    for name in ("latest", "epoch_1", "epoch_2", "step_4", "step_8"):
        assert f"Checkpoint {trained}/{name} is damaged" in str(e.value)
    assert str(e.value).endswith("To start from scratch, give another output_dir, or remove them.")


HASH = "0" * 64


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "3", '"files"', '{"files": 3}', '{"files": {}}', "{" * 10**5, "[" * 10**5,
        {"files": {"/../../secret": {"size": 1, "sha256": HASH}}, "checksum": ""},
        {".pdopt/../x": {"size": 1, "sha256": HASH}},
        {".pdopt": {"size": "1", "sha256": HASH}},
        {".pdopt": {"size": 1}},
        {".head_0_of_1.pdhead": {"size": 1, "sha256": HASH, "rows": [0, "1"], "columns": 1}},
        {".head_0_of_1.pdhead": {"size": 1, "sha256": HASH}},
    ],
)  # fmt: skip
def test_a_manifest_that_is_none_is_called_damaged(tmp_path, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "latest.manifest.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"Checkpoint .*latest is damaged: .*latest\.manifest\.json is not a manifest \("
    ):
        Manifest.read(tmp_path / "latest")


# which one, and what lies about


def test_starting_anew_over_checkpoints_and_going_on_from_an_old_one_are_said(trained, log_lines):
    assert find_checkpoint(None, trained) is None
    assert "has checkpoints of an earlier run (the newest: epoch_2)" in log_lines.text
    assert find_checkpoint(f"{trained}/step_4.pdparams", trained).prefix == trained / "step_4"
    assert (
        f"{trained}/epoch_2 is newer than {trained}/step_4; Global.checkpoints=auto takes the newest" in log_lines.text
    )


def test_what_kills_leave_is_cleaned_up_and_nothing_else(trained):
    before = sorted(path.name for path in trained.iterdir())
    strangers = ["epoch_9.pdparams", "epoch_9.pdopt", "notes.new", "my_model.pdparams.new", "latest.pdparams.old"]
    leftovers = ["step_12.pdparams.new", "step_12.manifest.json.new", ".latest.info.json.123.tmp", "latest.pdopt.new",
                 "best_model.head_0_of_2.pdhead.new"]  # fmt: skip
    for name in (*strangers, *leftovers):
        (trained / name).write_bytes(b"x")
    (trained / "step_4.manifest.json").rename(trained / "step_4.removed.json")  # killed in a removal
    (trained / "step_4.pdopt").unlink()
    clean_up(trained)
    kept = [name for name in before if not name.startswith("step_4.")]
    assert sorted(path.name for path in trained.iterdir()) == sorted([*kept, *strangers])


def test_a_run_that_is_saving_elsewhere_is_not_disturbed(trained, tmp_path):
    new = trained / "latest.pdopt.new"
    new.write_bytes(b"being written")
    (tmp_path / "other").mkdir()
    with only_run(trained):
        assert find_checkpoint(f"{trained}/latest", tmp_path / "other").prefix == trained / "latest"
        assert new.exists()
    find_checkpoint(f"{trained}/latest", tmp_path / "other")
    assert not new.exists()


# the same training


@pytest.mark.slow
def test_the_best_metric_survives(tiny_net_config, tmp_path, monkeypatch):
    train(tiny_net_config(), "Global.epochs=2")
    best = training_state(tmp_path / "output/latest")["progress"]["best_accuracy"]
    assert best > 0
    content = (tmp_path / "output/best_model.pdparams").read_bytes()
    monkeypatch.setattr("ppfacerec.metrics.evaluation.Evaluation.average_accuracy", best - 0.01)
    train(tiny_net_config(), "Global.epochs=3", "Global.checkpoints=auto")
    progress = training_state(tmp_path / "output/latest")["progress"]
    assert progress["best_accuracy"] == best
    assert progress["best_epoch"] in (1, 2)
    assert (tmp_path / "output/best_model.pdparams").read_bytes() == content


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        (["Arch.Backbone={name: PlainNet}", "Arch.Head.class_num=6"],
         "Arch.Backbone.name was TinyNet, is PlainNet; Arch.Head.class_num was 5, is 6"),
        (["Arch.Backbone.embedding_size=8", "Arch.Head.embedding_size=8"],
         "Arch.Backbone.embedding_size was 16, is 8; Arch.Head.embedding_size was 16, is 8"),
        (["Arch.Head.name=CosMargin"], "Arch.Head.name was ArcMargin, is CosMargin"),
        (["Arch.Head.num_sub_centers=2"], "Arch.Head.num_sub_centers was 1, is 2"),
        (["Optimizer={name: Momentum, lr: {name: Constant, learning_rate: 0.1}}"],
         "Optimizer.name was AdamW, is Momentum"),
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_training_is_refused_with_every_key(trained, tiny_net_config, overrides, changes):
    with pytest.raises(ValueError) as caught:
        train(tiny_net_config(), *PLAIN, "Global.checkpoints=auto", *overrides)
    name = find_checkpoint("auto", trained).prefix
    assert str(caught.value) == (
        f"{name} is a checkpoint of another training: {changes}. Change that back to resume; or start a new training from "
        f"its weights, with -o Global.pretrained_model={name} in place of Global.checkpoints, in another output_dir."
    )


def test_a_data_set_of_another_length_is_refused(trained, tiny_net_config, tiny_data, tmp_path):
    lines = (tiny_data / "label.txt").read_text().splitlines()
    (tmp_path / "fewer.txt").write_text("\n".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"another training: DataLoader\.Train\.dataset \(images\) was 20, is 19\. "):
        train(tiny_net_config(), *PLAIN, "Global.checkpoints=auto",
              f"DataLoader.Train.dataset.cls_label_path={tmp_path}/fewer.txt")  # fmt: skip


def test_what_may_change_is_shown_as_a_diff(trained, tiny_net_config, log_lines):
    train(tiny_net_config(), *PLAIN, "Global.checkpoints=auto", "Arch.Backbone.dropout=0.2", "EMA.decay=0.9",
          "Optimizer.lr.learning_rate=0.001")  # fmt: skip
    shown = next(r.getMessage() for r in log_lines.records if "Changed in the config" in r.getMessage())
    assert shown.splitlines() == [
        "Changed in the config since the checkpoint:",
        "  Global.epochs: 2 -> 3",
        "  Global.save_interval_steps: 4 -> 0",
        "  Optimizer.lr.learning_rate: 0.002 -> 0.001",
        "  Arch.Backbone.dropout: (not set) -> 0.2",
        "  EMA.decay: (not set) -> 0.9",
    ]


def test_lists_are_compared_place_by_place():
    old = {"Loss": {"Train": [{"CELoss": {"weight": 1.0}}]}, "Global": {"plugins": []}}
    new = {"Loss": {"Train": [{"CELoss": {"weight": 2.0}}, {"Other": {}}]}, "Global": {"plugins": []}}
    assert config_changes(old, new) == ["Loss.Train.0.CELoss.weight: 1.0 -> 2.0", "Loss.Train.1.Other: (not set) -> {}"]


# another total batch


@pytest.mark.parametrize(
    ("old", "new", "before", "after"),
    [
        (Pace(4, 1, 5), Pace(4, 1, 5), (2, 3, 8), (2, 3, 8)),
        (Pace(4, 1, 100), Pace(8, 1, 50), (3, 40, 240), (3, 20, 120)),
        (Pace(8, 1, 50), Pace(4, 1, 100), (3, 20, 120), (3, 40, 240)),
        (Pace(4, 1, 100), Pace(8, 1, 50), (1, 7, 7), (1, 3, 3)),  # 4 samples come again
        (Pace(4, 2, 100), Pace(4, 4, 100), (1, 10, 5), (1, 8, 2)),
        (Pace(4, 1, 5), Pace(8, 1, 3), (2, 5, 10), (2, 3, 6)),  # at the end of an epoch
        (Pace(4, 1, 5), Pace(8, 1, 3), (3, 0, 10), (3, 0, 6)),
    ],
)
def test_another_total_batch_goes_on_at_the_same_samples(old, new, before, after):
    epoch, iteration, step = before
    moved = new.translate(Progress(epoch, iteration, step, 0.9, 1), old)
    assert dataclasses.astuple(moved) == (*after, 0.9, 1)


@pytest.mark.slow
def test_samples_and_learning_rate_go_on_on_another_total_batch(tiny_net_config, tmp_path, monkeypatch, log_lines):
    """As on twice as many ranks: what is seen after the stop is the rest of the same order."""
    seen, forward = [], Trainer._forward_backward
    monkeypatch.setattr(
        Trainer, "_forward_backward",
        lambda self, batch, iteration: (
            seen.append((self.state.progress.epoch, *batch.indices)), forward(self, batch, iteration)
        )[1],
    )  # fmt: skip
    train(tiny_net_config(), *PLAIN, f"Global.output_dir={tmp_path}/whole", "DataLoader.Train.sampler.batch_size=2")
    whole, seen[:] = list(seen), []
    train(tiny_net_config(), *PLAIN, "DataLoader.Train.sampler.batch_size=2", "Global.save_interval_steps=14")
    seen.clear()
    train(tiny_net_config(), *PLAIN, f"Global.checkpoints={tmp_path}/output/step_14")  # 10 steps of 2, then 4 of 10
    order = [index for epoch, *indices in whole for index in indices]
    assert [index for epoch, *indices in seen for index in indices] == order[28:]
    assert "iteration 4 of epoch 2 is now 2, optimizer step 14 is 7" in log_lines.text
    train(tiny_net_config(), *PLAIN, f"Global.output_dir={tmp_path}/four")  # always 4
    rates = []
    for name in ("output", "four"):
        with open(tmp_path / name / "train.csv", newline="") as file:
            rates.append({row["global_step"]: row["lr"] for row in csv.DictReader(file) if int(row["global_step"]) > 7})
    assert rates[0].keys() == rates[1].keys()
    assert list(rates[0].values())[-8:] == list(rates[1].values())


# the tables


@pytest.mark.slow
def test_the_tables_of_a_killed_and_resumed_run_are_the_uninterrupted_ones(tiny_net_config, tmp_path):
    train(tiny_net_config(), "Global.epochs=3", f"Global.output_dir={tmp_path}/whole")
    train(tiny_net_config(), "Global.epochs=3", "Global.save_interval_steps=4")
    output = tmp_path / "output"
    with open(output / "train.csv", "a") as file:
        file.write("3,4,1")  # the kill came while this line was written
    train(tiny_net_config(), "Global.epochs=3", f"Global.checkpoints={output}/step_8")
    for name, columns in (
        ("train.csv", ("epoch", "iter", "global_step", "lr", "loss")),
        ("eval.csv", ("epoch", "lfw")),
    ):
        tables = []
        for folder in (tmp_path / "whole", output):
            with open(folder / name, newline="") as file:
                tables.append([[row[column] for column in columns] for row in csv.DictReader(file)])
        assert tables[0] == tables[1]


def test_a_run_that_starts_again_at_its_beginning_writes_epoch_0_once(tiny_net_config, tmp_path, monkeypatch):
    config = tiny_net_config(**{"Global.eval_before_train": True, "Global.checkpoints": "auto"})
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", lambda trainer: 1 / 0)  # killed before its first checkpoint
        with pytest.raises(ZeroDivisionError):
            train(config)
    train(config)
    with open(tmp_path / "output/eval.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]


def test_measured_thresholds_stay_beside_the_weights_that_they_are_of(
    tiny_net_config, tmp_path, monkeypatch, log_lines
):
    def thresholds(name):
        return read_info(info_path(tmp_path / f"output/{name}.pdparams")).thresholds

    config = tiny_net_config(**{"Global.checkpoints": "auto", "Global.epochs": 3})
    known = []  # evaluations in their order; the first is the best

    def accuracy(evaluation):
        known.extend([evaluation] if all(evaluation is not other for other in known) else [])
        return 0.9 if evaluation is known[0] else 0.5

    monkeypatch.setattr(Evaluation, "average_accuracy", property(accuracy))
    update = Trainer._step

    def die_in_epoch_2(trainer):
        update(trainer)
        if trainer.state.progress.global_step == 8:
            raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", die_in_epoch_2)
        with pytest.raises(ZeroDivisionError):
            train(config)
    of_best = thresholds("best_model")  # of epoch 1
    assert of_best
    train(config)
    assert thresholds("best_model") == of_best
    of_latest = thresholds("latest")
    assert of_latest
    assert train(config) == {}  # a finished training, started again
    assert "All 3 epochs are trained; to continue, raise Global.epochs." in log_lines.text
    assert (thresholds("best_model"), thresholds("latest")) == (of_best, of_latest)


@pytest.mark.slow
def test_a_run_stopped_before_its_evaluation_evaluates_when_it_goes_on(tiny_net_config, tmp_path):
    train(tiny_net_config(), "Global.epochs=2", f"Global.output_dir={tmp_path}/whole")
    train(tiny_net_config(), "Global.epochs=2", "Global.save_interval_steps=5")
    assert training_state(tmp_path / "output/step_5")["progress"]["iteration"] == 5
    evaluations = train(tiny_net_config(), "Global.epochs=2", f"Global.checkpoints={tmp_path}/output/step_5")
    assert sorted(evaluations) == [1, 2]
    assert_same_checkpoint(tmp_path / "whole/latest", tmp_path / "output/latest")
    assert np.isfinite(evaluations[1].average_accuracy)
