"""Laws of several machines that share no disk: two launchers in two folders, one training."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_NET, tiny_tree, write_tree
from namespaces import Hosts, why_not
from test_two_machines import free_port, start_machine
from training_state import assert_same_checkpoint

from ppfacerec.training.checkpoints.pretrained import read_weights

COMMON = ["Global.eval_during_train=False", "Optimizer.name=Momentum", "DataLoader.Train.sampler.batch_size=2",
          "Global.epochs=3", "Global.save_interval=1"]  # fmt: skip
ONE_EPOCH = ["Global.epochs=1", "Optimizer.lr={name: Constant, learning_rate: 0.01}"]


class Machines:
    """Two machines, each with a folder of its own; the same relative paths lead to different files.

    Attributes:
        hosts: makes of each a machine with its own address, host name and disk; else both are on loopback.
    """

    hosts: Hosts | None = None

    def __init__(self, config: Path, root: Path) -> None:
        self.config, self.folders = config, [root / name for name in ("A", "B")]
        for folder in self.folders:
            folder.mkdir(parents=True)

    def run(self, *overrides, only_a=(), only_b=(), order=(0, 1), expect=0, tool="train.py", arguments=None):
        """Start both; `order` says which folder is rank 0's. Returns the outputs of A and of B.

        Args:
            arguments: of the tool, in place of config and overrides.
        """
        master = f"{self.hosts.addresses[order[0]] if self.hosts else '127.0.0.1'}:{free_port()}"
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
                prefix=self.hosts.prefix(place) if self.hosts else (),
            )
            for rank, place in enumerate(order)
        }
        said = {}
        for place, machine in started.items():
            status = machine.wait(240)
            logs = sorted(self.folders[place].glob("log/workerlog.*"))
            said[place] = machine.output() + "".join(path.read_text(errors="replace") for path in logs)
            assert (status == 0) == (expect == 0), said[place]
            shutil.rmtree(self.folders[place] / "log", ignore_errors=True)
        return said[0], said[1]

    def output(self, place):
        return self.folders[place] / "output"


@pytest.fixture
def machines(tiny_net_config, tmp_path):
    return Machines(tiny_net_config(), tmp_path)


@pytest.fixture(scope="module")
def whole(tiny_data, tmp_path_factory):
    """An uninterrupted training of three epochs."""
    root = tmp_path_factory.mktemp("whole")
    machines = Machines(write_tree(tiny_tree(tiny_data, root / "output"), root, **TINY_NET), root)
    machines.run(*COMMON)
    return machines.output(0)


@pytest.fixture
def trained(machines, whole):
    """Two epochs of three, on A's disk."""
    for place in (0, 1):
        machines.output(place).mkdir()
    for path in (*whole.glob("epoch_1.*"), *whole.glob("epoch_2.*")):
        shutil.copy(path, machines.output(0))
    return machines


def assert_as_uninterrupted(folder, whole):
    assert_same_checkpoint(folder / "latest", whole / "latest")


@pytest.mark.slow
def test_the_newest_checkpoint_of_any_machine_is_what_all_go_on_from(trained, whole):
    a, b = trained.output(0), trained.output(1)
    # B has an older copy, and is rank 0 now: A's is taken all the same, and the rest goes to B's disk.
    for path in a.glob("epoch_1.*"):
        shutil.copy(path, b)
    trained.run(*COMMON, "Global.checkpoints=auto", order=(1, 0))
    said = (b / "train.log").read_text()
    assert "The machines have different checkpoints (rank 0" in said
    assert "output/epoch_1, optimizer step 5; rank 1" in said
    assert "output/epoch_2, optimizer step 10): all resume from rank 1" in said
    assert "Resumed from output/epoch_2: epoch 3, iteration 0, optimizer step 10" in said
    assert_as_uninterrupted(b, whole)


@pytest.mark.slow
def test_machines_with_addresses_names_and_disks_of_their_own(trained, whole, tmp_path):
    """As above, but B has nothing; then A lacks weights and config, and both evaluate those of B."""
    if why_not():
        pytest.skip(why_not())
    with Hosts(tmp_path, trained.folders) as trained.hosts:
        trained.run(*COMMON, "Global.checkpoints=auto", order=(1, 0))
        said = (trained.output(1) / "train.log").read_text()
        assert "Processes: rank 0 on beta; rank 1 on alpha; they have separate disks" in said
        assert "rank 0 on beta: none; rank 1 on alpha: output/epoch_2, optimizer step 10" in said
        assert_as_uninterrupted(trained.output(1), whole)
        evaluate = ["-o", "Global.pretrained_model=output/latest", "Global.plugins=[tiny_plugin]"]
        for name in ("config.yaml", "latest.pdparams"):
            (trained.output(0) / name).unlink(missing_ok=True)
        said, _ = trained.run(tool="eval.py", arguments=evaluate)
        assert "all use rank 1 on beta's" in said
        assert "Loaded 15 tensors from output/latest" in said
        assert (trained.output(0) / "eval.json").is_file()


@pytest.mark.slow
def test_a_machine_without_checkpoints_gets_the_others(trained, whole):
    trained.run(*COMMON, "Global.checkpoints=auto")
    assert_as_uninterrupted(trained.output(0), whole)


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
    assert "start.pdparams is missing or different on some processes: all use rank 1's" in said
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
    assert "the head is initialised from scratch; its classes are other identities: 5 of 5 classes" in said
    assert "Loaded 15 tensors from start.pdparams" in said


@pytest.mark.slow
def test_a_large_head_is_gathered_to_rank_0_where_disks_are_not_shared(machines):
    machines.run(*COMMON, *ONE_EPOCH, "Global.save_head=shards", "Arch.Head.class_parallel=True")
    assert read_weights(machines.output(0) / "latest")["head.weight"].shape == (16, 5)
    assert not list(machines.output(0).glob("*.pdhead"))
    assert not list(machines.output(1).glob("*.pdparams"))


@pytest.mark.slow
def test_different_configs_are_refused_on_both_before_the_first_step(machines):
    only_b = ["Optimizer.lr.learning_rate=0.05", "Global.seed=7", "DataLoader.Train.sampler.batch_size=3"]
    for said in machines.run(*COMMON, only_b=only_b, expect=1):
        assert (
            "The processes were started with different configs or programs: "
            "DataLoader.Train.sampler.batch_size is 2 on rank 0, 3 on rank 1; Global.seed is 0 on rank 0, 7 on rank 1; "
            "Optimizer.lr.learning_rate is 0.002 on rank 0, 0.05 on rank 1"
        ) in said
        assert "[Train]" not in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("Global.epoch=3", "Global.epoch: unknown key"),
        ("DataLoader.Train.dataset.cls_label_path=here.txt", "the file here.txt does not exist"),
    ],
)
def test_a_config_error_and_missing_data_of_one_machine_are_told_on_the_other(machines, override, problem):
    said, own = machines.run(*COMMON, only_b=[override], expect=1)
    assert problem in own
    assert "Rank 1 failed: " in said
    assert problem in said
