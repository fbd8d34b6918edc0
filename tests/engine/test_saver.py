"""Laws of saving: when, how many are kept, in the background as in the foreground, and what an error leaves behind."""

from __future__ import annotations

import errno
import time
from collections import namedtuple

import numpy as np
import pytest
from training_state import assert_same_checkpoint, differences, training_state

from ppfacerec.config import load_config
from ppfacerec.engine import Engine
from ppfacerec.training.checkpoints import checkpoint
from ppfacerec.training.checkpoints.files import disk_space
from ppfacerec.training.checkpoints.saver import Saver
from ppfacerec.training.trainer import Trainer


def train(path, *overrides):
    config, notes = load_config(path, overrides)
    return Engine(config, notes).train()


def names(folder):
    return sorted(path.name[: -len(".manifest.json")] for path in folder.glob("*.manifest.json"))


def left_over(folder):
    return sorted(p.name for p in folder.iterdir() if p.name.endswith((".new", ".tmp", ".removed.json", ".lock")))


PLAIN = ["Global.eval_during_train=False", "Global.epochs=3"]  # 5 steps an epoch


def test_a_checkpoint_is_saved_every_so_many_steps(tiny_net_config, tmp_path):
    train(tiny_net_config(), *PLAIN, "Global.save_interval_steps=4", "Global.save_interval=9")
    assert names(tmp_path / "output") == ["epoch_3", "latest", "step_12", "step_4", "step_8"]
    assert training_state(tmp_path / "output" / "step_8")["progress"] == {
        "epoch": 2, "iteration": 3, "global_step": 8, "best_accuracy": None, "best_epoch": 0,
    }  # fmt: skip


def test_steps_are_the_optimizers_and_nothing_is_saved_within_an_accumulation(tiny_net_config, tmp_path):
    """Epochs of 5 batches and update_freq 2: steps end after batch 2, 4, 5."""
    train(tiny_net_config(), *PLAIN, "Global.save_interval_steps=1", "Global.update_freq=2")
    found = [training_state(tmp_path / "output" / f"step_{step}")["progress"] for step in range(1, 10)]
    assert [(p["epoch"], p["iteration"]) for p in found] == [(e, i) for e in (1, 2, 3) for i in (2, 4, 5)]


def test_latest_is_saved_every_so_many_minutes(tiny_net_config, monkeypatch):
    saved, clock = [], iter(range(0, 10**6, 40))  # every look at it is 40 seconds later
    monkeypatch.setattr("ppfacerec.training.checkpoints.saver.time.monotonic", lambda: next(clock))
    monkeypatch.setattr(Saver, "save", lambda self, *what, **rest: (saved.append(what), original(self, *what, **rest)))
    train(tiny_net_config(), *PLAIN, "Global.save_interval_minutes=2", "Global.save_interval=9", "Global.epochs=2")
    # Three looks to two minutes; each save looks once itself. The epochs end after steps 5 and 10.
    assert saved.count(("latest",)) >= 3
    assert saved[-1] == ("latest", "epoch_2")


original = Saver.save


@pytest.mark.slow
def test_only_the_last_ones_are_kept(tiny_net_config, tmp_path):
    train(tiny_net_config(), "Global.epochs=3", "Global.save_interval_steps=2", "Global.keep_last=2")
    assert names(tmp_path / "output") == ["best_model", "epoch_3", "latest", "step_14"]
    assert not left_over(tmp_path / "output")


@pytest.mark.slow
def test_what_is_resumed_from_is_never_removed_nor_what_another_training_has_saved(
    tiny_net_config, tmp_path, monkeypatch
):
    output, keep_one = tmp_path / "output", ["Global.keep_last=1", "Global.save_interval_steps=3"]
    train(tiny_net_config(), *PLAIN, "Global.epochs=5", "Global.save_interval=5")
    for suffix in (".pdparams", ".pdopt", ".pdstates"):  # one that PaddleClas has written
        (output / f"epoch_77{suffix}").write_bytes(b"of somebody else")
    train(tiny_net_config(), *PLAIN, "Global.epochs=2", *keep_one)
    assert names(output) == ["epoch_2", "epoch_5", "latest"]  # epoch_5 is the first training's
    train(tiny_net_config(), *PLAIN, "Global.epochs=4", *keep_one, f"Global.checkpoints={output}/epoch_2")
    assert names(output) == ["epoch_2", "epoch_4", "epoch_5", "latest"]
    assert len(list(output.glob("epoch_77.*"))) == 3
    monkeypatch.chdir(tmp_path)  # the same by another spelling
    relative = ["Global.output_dir=output", f"Global.checkpoints={output}/epoch_4"]
    train(tiny_net_config(), *PLAIN, "Global.epochs=5", *keep_one, *relative)
    assert "epoch_4" in names(output)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["whole", "shards"])
def test_files_written_in_the_background_are_those_written_in_the_foreground(tiny_net_config, tmp_path, head):
    save_head = "shards" if head == "shards" else True
    for name in ("True", "False"):
        train(
            tiny_net_config(), *PLAIN, "EMA.decay=0.9", f"Global.output_dir={tmp_path}/{name}",
            "Global.save_interval_steps=2", f"Global.save_in_background={name}", f"Global.save_head={save_head}",
        )  # fmt: skip
    found = names(tmp_path / "True")
    assert found == names(tmp_path / "False")
    for name in found:
        assert_same_checkpoint(tmp_path / "True" / name, tmp_path / "False" / name)
        for suffix in (".pdparams", ".pdopt"):
            one, other = (tmp_path / background / f"{name}{suffix}" for background in ("True", "False"))
            assert one.read_bytes() == other.read_bytes()


def test_training_goes_on_while_a_checkpoint_is_written(tiny_net_config, tmp_path, monkeypatch):
    """A slow disk: what is written is the state of the moment of saving, not the later one."""
    steps_at_end, write = [], checkpoint.write_new
    trainers = []

    def slow(prefix, suffix, value):
        if prefix.name == "step_2":
            time.sleep(0.2)
        entry = write(prefix, suffix, value)
        steps_at_end.append((prefix.name, trainers[0].state.progress.global_step))
        return entry

    init = Trainer.__init__
    monkeypatch.setattr(Trainer, "__init__", lambda self, *a, **k: (trainers.append(self), init(self, *a, **k))[1])
    monkeypatch.setattr(checkpoint, "write_new", slow)
    train(tiny_net_config(), *PLAIN, "Global.save_interval_steps=2", "EMA.decay=0.5")
    assert max(step for name, step in steps_at_end if name == "step_2") > 2
    monkeypatch.undo()
    train(tiny_net_config(), *PLAIN, "Global.save_interval_steps=2", "EMA.decay=0.5", "Global.save_in_background=False",
          f"Global.output_dir={tmp_path}/plain")  # fmt: skip
    assert differences(training_state(tmp_path / "plain/step_2"), training_state(tmp_path / "output/step_2")) == []


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("file", [".pdparams", ".pdopt", ".pdstates", ".info.json", ".manifest.json"])
def test_a_disk_that_becomes_full_ends_the_run_and_keeps_the_checkpoint_before(
    tiny_net_config, tmp_path, monkeypatch, file, background
):
    output, written = tmp_path / "output", []

    def full(original, own_suffix):
        def write(prefix, *rest):
            suffix = own_suffix or rest[0]
            written.append(prefix.name)
            (prefix.parent / f"{prefix.name}{suffix}.new").write_bytes(b"half")
            if prefix.name == "step_4" and suffix == file:
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(prefix, *rest)

        return write

    for name, own_suffix in (
        ("write_new", ""),
        ("write_new_info", ".info.json"),
        ("write_new_manifest", ".manifest.json"),
    ):
        monkeypatch.setattr(checkpoint, name, full(getattr(checkpoint, name), own_suffix))
    with pytest.raises(ValueError, match="step_4 cannot be saved") as caught:
        train(tiny_net_config(), *PLAIN, "Global.save_interval_steps=2", f"Global.save_in_background={background}")
    assert (
        f"{output}/step_4 cannot be saved: it needs 0.1 MiB, but no more is available (No space left on device; "
        in str(caught.value)
    )
    assert str(caught.value).endswith(
        f"are free) in {output}. The checkpoints there are unchanged. Free some space, or keep fewer of them "
        "(Global.keep_last), then resume with -o Global.checkpoints=auto."
    )
    assert names(output) == ["step_2"]
    assert not left_over(output)
    training_state(output / "step_2")
    assert "step_6" not in written


def test_a_disk_without_room_is_told_before_a_byte_is_written(tiny_net_config, tmp_path, monkeypatch):
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda folder: Usage(10**9, 10**9, 70_000))
    with pytest.raises(
        ValueError, match=r"latest cannot be saved: it needs 0\.2 MiB, but 0\.1 MiB are free in .*output"
    ):
        train(tiny_net_config(**{"Arch.Head.class_num": 700}), *PLAIN)
    assert names(tmp_path / "output") == []
    assert not left_over(tmp_path / "output")


def test_another_error_in_writing_ends_the_run_with_its_words(tiny_net_config, tmp_path, monkeypatch):
    def broken(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(checkpoint, "write_new", broken)
    with pytest.raises(ValueError, match=r"latest cannot be saved \(Input/output error\)\. The checkpoints in"):
        train(tiny_net_config(), *PLAIN)


def test_a_run_that_fails_still_completes_the_checkpoint_under_way(tiny_net_config, tmp_path, monkeypatch):
    update, write = Trainer._step, checkpoint.write_new

    def fail(trainer):
        if trainer.state.progress.global_step == 2:
            raise ValueError("a bad image")
        update(trainer)

    monkeypatch.setattr(checkpoint, "write_new", lambda *a: (time.sleep(0.1), write(*a))[1])
    monkeypatch.setattr(Trainer, "_step", fail)
    with pytest.raises(ValueError, match="a bad image"):
        train(tiny_net_config(), *PLAIN, "Global.save_interval_steps=2")
    assert names(tmp_path / "output") == ["step_2"]
    assert not left_over(tmp_path / "output")
    assert np.isfinite(training_state(tmp_path / "output/step_2")["weights"]["head.weight"]).all()
