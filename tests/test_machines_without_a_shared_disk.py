"""Laws of several machines that share no disk: two launchers in two folders, one training."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from test_two_machines import free_port, start_machine
from training_state import assert_same_checkpoint

from ppfacerec.training.checkpoints.pretrained import read_weights

COMMON = ["Global.eval_during_train=False", "Optimizer.name=Momentum", "DataLoader.Train.sampler.batch_size=2",
          "Global.epochs=3", "Global.save_interval=1"]  # fmt: skip
ONE_EPOCH = ["Global.epochs=1", "Optimizer.lr={name: Constant, learning_rate: 0.01}"]


class Machines:
    """Two machines, each with a folder of its own; the same relative paths lead to different files."""

    def __init__(self, config: Path, root: Path) -> None:
        self.config, self.folders = config, [root / name for name in ("A", "B")]
        for folder in self.folders:
            folder.mkdir(parents=True)

    def run(self, *overrides, only_a=(), only_b=(), order=(0, 1), expect=0, tool="train.py", arguments=None):
        """Start both; `order` says which folder is rank 0's. Returns the outputs of A and of B.

        Args:
            arguments: of the tool, in place of config and overrides.
        """
        master = f"127.0.0.1:{free_port()}"
        own = {0: only_a, 1: only_b}
        started = {
            place: start_machine(
                rank,
                master,
                self.config,
                Path("output"),
                *overrides,
                *own[place],
                cwd=self.folders[place],
                tool=tool,
                arguments=arguments,
            )
            for rank, place in enumerate(order)
        }
        said = {}
        for place, machine in started.items():
            text, _ = machine.communicate(timeout=240)
            logs = sorted(self.folders[place].glob("log/workerlog.*"))
            said[place] = text + "".join(path.read_text(errors="replace") for path in logs)
            assert (machine.returncode == 0) == (expect == 0), said[place]
            shutil.rmtree(self.folders[place] / "log", ignore_errors=True)
        return said[0], said[1]

    def output(self, place):
        return self.folders[place] / "output"


@pytest.fixture
def machines(tiny_net_config, tmp_path):
    return Machines(tiny_net_config(), tmp_path)


@pytest.fixture
def trained(machines, tmp_path):
    """Two epochs of three, on A's disk; `whole` has the uninterrupted training."""
    machines.run(*COMMON)
    shutil.copytree(machines.output(0), tmp_path / "whole")
    for path in [*machines.output(0).glob("latest.*"), *machines.output(0).glob("epoch_3.*")]:
        path.unlink()
    return machines


def assert_as_uninterrupted(folder, tmp_path):
    assert_same_checkpoint(folder / "latest", tmp_path / "whole" / "latest")


@pytest.mark.slow
def test_the_newest_checkpoint_of_any_machine_is_what_all_go_on_from(trained, tmp_path):
    a, b = trained.output(0), trained.output(1)
    assert (a / "epoch_2.pdparams").exists()
    assert not list(b.glob("*.pdparams"))
    # B has an older copy, and is rank 0 now: A's is taken all the same, and the rest goes to B's disk.
    for path in a.glob("epoch_1.*"):
        shutil.copy(path, b)
    said, _ = trained.run(*COMMON, "Global.checkpoints=auto", order=(1, 0))
    _, said_b = said, (b / "train.log").read_text()
    assert "The machines have different checkpoints (rank 0" in said_b
    assert "output/epoch_1, optimizer step 5; rank 1" in said_b
    assert "output/epoch_2, optimizer step 10): all go on from rank 1" in said_b
    assert "Resumed from output/epoch_2: epoch 3, iteration 0, optimizer step 10" in said_b
    assert_as_uninterrupted(b, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_machine_without_checkpoints_gets_the_others(trained, tmp_path, order):
    trained.run(*COMMON, "Global.checkpoints=auto", order=order)
    assert_as_uninterrupted(trained.output(order[0]), tmp_path)


@pytest.mark.slow
def test_checkpoints_of_different_trainings_are_refused_with_who_has_what(trained):
    for path in trained.output(0).iterdir():
        if path.name.startswith("epoch_"):
            path.rename(trained.output(1) / path.name)
    trained.run(*COMMON, *ONE_EPOCH, "Global.seed=5")  # another training, on A
    for said in trained.run(*COMMON, "Global.checkpoints=auto", expect=1):
        assert "The machines have checkpoints of different trainings (rank 0: output/epoch_1" in said


@pytest.mark.slow
def test_pretrained_weights_that_one_machine_has_are_loaded_by_all(trained):
    shutil.copy(trained.output(0) / "epoch_2.pdparams", trained.folders[1] / "start.pdparams")
    said, _ = trained.run(*COMMON, "Global.pretrained_model=start.pdparams", "Global.epochs=1",
                          "Optimizer.lr={name: Constant, learning_rate: 1.0e-30}")  # fmt: skip
    assert "start.pdparams is not the same file on all processes, or not there: all take rank 1's" in said
    assert "Loaded 16 tensors from start.pdparams" in said
    start = read_weights(trained.folders[1] / "start.pdparams")
    end = read_weights(trained.output(0) / "latest")
    for name in start:
        if not name.endswith(("_mean", "_variance")):
            np.testing.assert_array_equal(end[name], start[name], err_msg=name)


@pytest.mark.slow
def test_all_ranks_leave_out_a_head_of_other_people_though_one_alone_can_tell(trained, tiny_data):
    """Only B has what lies beside the weights; the classes are spread, so that no broadcast would hide a difference."""
    for suffix in (".pdparams", ".info.json", ".pdstates"):
        shutil.copy(trained.output(0) / f"epoch_2{suffix}", trained.folders[1] / f"start{suffix}")
    lines = [line.split("\t") for line in (tiny_data / "label.txt").read_text().splitlines()]
    rotated = "".join(f"{path}\t{(int(label) + 1) % 5}\n" for path, label in lines)
    for folder in trained.folders:
        (folder / "rotated.txt").write_text(rotated)
    said, _ = trained.run(
        *COMMON, *ONE_EPOCH, "Global.pretrained_model=start.pdparams", "Arch.Head.class_parallel=True",
        "DataLoader.Train.dataset.cls_label_path=rotated.txt",
    )  # fmt: skip
    assert "the head is not loaded and starts anew; its classes are other people: 5 of 5 classes" in said
    assert "Loaded 15 tensors from start.pdparams" in said


@pytest.mark.slow
def test_a_large_head_is_gathered_to_rank_0_where_disks_are_not_shared(machines):
    machines.run(*COMMON, *ONE_EPOCH, "Global.save_head=shards", "Arch.Head.class_parallel=True")
    assert read_weights(machines.output(0) / "latest")["head.weight"].shape == (16, 5)
    assert not list(machines.output(0).glob("*.pdhead"))
    assert not list(machines.output(1).glob("*.pdparams"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("Optimizer.lr.learning_rate=0.05", "Optimizer.lr.learning_rate is 0.002 on rank 0, 0.05 on rank 1"),
        ("Global.seed=7", "Global.seed is 0 on rank 0, 7 on rank 1"),
        ("DataLoader.Train.sampler.batch_size=3", "DataLoader.Train.sampler.batch_size is 2 on rank 0, 3 on rank 1"),
    ],
)
def test_different_configs_are_refused_on_both_before_the_first_step(machines, override, message):
    for said in machines.run(*COMMON, only_b=[override], expect=1):
        assert f"The processes were started with different configs or programs: {message}" in said
        assert "[Train]" not in said


@pytest.mark.slow
def test_an_error_of_one_machine_is_told_on_the_other_within_seconds(machines):
    said, own = machines.run(*COMMON, only_b=["Global.epoch=3"], expect=1)
    assert "Global.epoch: unknown key" in own
    assert "Rank 1 failed: " in said
    assert "Global.epoch: unknown key" in said


@pytest.mark.slow
def test_data_that_one_machine_lacks_is_told_on_both(machines):
    nowhere = f"DataLoader.Train.dataset.cls_label_path={machines.folders[1]}/label.txt"
    for said in machines.run(*COMMON, only_b=[nowhere], expect=1):
        assert "B/label.txt" in said
        assert "does not exist" in said
