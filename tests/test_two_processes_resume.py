"""Laws of stopping, saving and going on in several processes: they agree, also where one of them fails."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from launching import ROOT, Launcher, launch
from training_state import assert_same_checkpoint, training_state

pytestmark = pytest.mark.slow

SHARED = ["DataLoader.Train.sampler.batch_size=2", "Global.eval_during_train=False", "Global.epochs=3"]
SHARDS = ["Arch.Head.class_parallel=True", "Global.save_head=shards"]


def train(config: Path, output: Path, *overrides: str, **options) -> str:
    return launch(
        2, str(ROOT / "tools" / "train.py"), "-c", str(config), "-o", f"Global.output_dir={output}", *SHARED,
        *overrides, log_dir=output.parent / f"log_{output.name}", **options,
    )  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(path.name[: -len(".manifest.json")] for path in folder.glob("*.manifest.json"))


# Signals itself after the third step, and waits for the handler.
SIGNALLING = """
import os, signal, time
from ppfacerec.training.trainer import Trainer

original = Trainer._step

def update(trainer):
    original(trainer)
    if os.environ["PADDLE_TRAINER_ID"] == "1" and trainer.state.progress.global_step == 3:
        os.kill(os.getpid(), signal.SIGTERM)

Trainer._step = update
"""


def test_a_signal_to_one_process_stops_all_after_the_same_step_with_status_75(tiny_net_config, tmp_path):
    (tmp_path / "signalling.py").write_text(SIGNALLING)
    whole, part = tmp_path / "whole", tmp_path / "part"
    train(tiny_net_config(), whole, *SHARDS)
    launcher = Launcher(
        "--nproc_per_node", "2", "--log_dir", str(tmp_path / "log"),
        str(ROOT / "tools" / "train.py"), "-c", str(tiny_net_config()), "-o", f"Global.output_dir={part}", *SHARED,
        *SHARDS, "Global.plugins=[tiny_plugin, signalling]", cwd=tmp_path,
    )  # fmt: skip
    assert launcher.wait(240) == 75
    assert training_state(part / "latest")["progress"]["global_step"] == 3
    assert names(part) == ["latest"]
    train(tiny_net_config(), part, *SHARDS, "Global.checkpoints=auto")
    assert_same_checkpoint(whole / "latest", part / "latest")


def test_a_signal_to_the_launcher_stops_all_and_saves(tiny_net_config, tmp_path):
    output = tmp_path / "run"
    launcher = Launcher(
        "--nproc_per_node", "2", "--log_dir", str(tmp_path / "log"),
        str(ROOT / "tools" / "train.py"), "-c", str(tiny_net_config()), "-o", f"Global.output_dir={output}", *SHARED,
        "Global.epochs=500", cwd=tmp_path,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not (output / "train.csv").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(60) == signal.SIGTERM
    assert "latest" in names(output)
    assert training_state(output / "latest")["progress"]["global_step"] > 0
    assert "Stopped; resume with" in (output / "train.log").read_text()
    assert not list(output.glob("*.new"))


FULL = """
import errno, os
from ppfacerec.training.checkpoints import checkpoint

original = checkpoint.write_new

def write_new(prefix, suffix, value):
    if prefix.name == "step_4" and os.environ["PADDLE_TRAINER_ID"] == "1":
        raise OSError(errno.ENOSPC, "No space left on device")
    return original(prefix, suffix, value)

checkpoint.write_new = write_new
"""


def test_a_disk_full_for_one_process_ends_all_and_keeps_the_checkpoint_before(tiny_net_config, tmp_path):
    (tmp_path / "full.py").write_text(FULL)
    output = tmp_path / "run"
    said = train(
        tiny_net_config(), output, *SHARDS, "Global.plugins=[tiny_plugin, full]", "Global.save_interval_steps=2",
        expect=1,
    )  # fmt: skip
    assert f"{output}/step_4 cannot be saved: it needs 0." in said
    assert "but no more is available (No space left on device; " in said
    assert names(output) == ["step_2"]
    assert not list(output.glob("*.new"))
    said = train(tiny_net_config(), output, *SHARDS, "Global.checkpoints=auto")
    assert f"Resumed from {output}/step_2" in said
    assert not list(output.glob(".*"))


def test_all_processes_take_the_same_checkpoint_where_the_newest_is_damaged(tiny_net_config, tmp_path):
    output = tmp_path / "run"
    train(tiny_net_config(), output, "Global.epochs=2", *SHARDS)
    assert json.loads((output / "latest.manifest.json").read_text())["files"].keys() >= {
        ".head_0_of_2.pdhead", ".head_1_of_2.pdhead"
    }  # fmt: skip
    victim = output / "epoch_2.head_1_of_2.pdhead"
    victim.write_bytes(victim.read_bytes()[:-1])
    said = train(tiny_net_config(), output, *SHARDS, "Global.checkpoints=auto")
    assert f"is damaged: {victim} is not the file that was saved" in said
    assert f"Resumed from {output}/latest: epoch 3, iteration 0, optimizer step 10" in said


def test_a_second_run_of_two_processes_is_refused_on_all(tiny_net_config, tmp_path):
    from ppfacerec.training.checkpoints.files.run_lock import only_run

    (tmp_path / "run").mkdir()
    with only_run(tmp_path / "run"):
        said = train(tiny_net_config(), tmp_path / "run", expect=1)
    assert f"is in use by another run, process {os.getpid()} on " in said
