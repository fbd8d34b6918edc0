"""Laws of the estimate of memory and traffic."""

from __future__ import annotations

from dataclasses import replace

import paddle
import pytest

from ppfacerec import cli
from ppfacerec.backbones import IResNet18
from ppfacerec.engine.memory_plan import GIB, OVERHEAD, BackboneSize, TrainingSize, fit, measure_backbone

BACKBONE = BackboneSize("Net", num_parameters=1000, activations=300, recomputed_activations=100, largest=50)
SIZE = TrainingSize(BACKBONE, class_num=1001, embedding_size=8, batch_size=4, num_gpus=2)


class TwoBlocks(paddle.nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.first = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3, stride=2), paddle.nn.ReLU())
        self.second = paddle.nn.Sequential(paddle.nn.Conv2D(4, 8, 3, stride=2), paddle.nn.BatchNorm2D(8))

    def forward(self, x):
        return self.second(self.first(x))


def test_activations_are_counted_from_the_layers_outputs():
    first, second = 4 * 55 * 55, 8 * 27 * 27
    network = TwoBlocks()
    before = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    size = measure_backbone(network, "TwoBlocks")
    assert size == BackboneSize(
        "TwoBlocks",
        num_parameters=4 * 3 * 9 + 4 + 8 * 4 * 9 + 8 + 2 * 8,
        activations=2 * first + 2 * second,
        recomputed_activations=first + second + 2 * first,
        largest=first,
    )
    assert network.training
    for name, tensor in network.state_dict().items():
        assert (tensor.numpy() == before[name]).all(), name


def test_recompute_of_a_real_backbone_needs_less():
    size = measure_backbone(IResNet18(), "IResNet18")
    assert size.recomputed_activations < 0.7 * size.activations


def test_a_shard_is_an_equal_part_of_the_head_rounded_up():
    sharded, replicated = SIZE.memory(), replace(SIZE, class_parallel=False).memory()
    assert sharded["head weight"] == 501 * 8 * 4
    assert replicated["head weight"] == 1001 * 8 * 4
    assert replace(SIZE, num_sub_centers=3).memory()["head weight"] == 1502 * 8 * 4


def test_optimizer_state_follows_the_optimizer():
    for optimizer, slots in (("SGD", 0), ("Momentum", 1), ("AdamW", 2)):
        memory = replace(SIZE, optimizer=optimizer).memory()
        assert memory["head optimizer state"] == slots * memory["head weight"]
        assert memory["backbone optimizer state"] == slots * 4000


def test_activations_grow_with_the_batch_and_halve_with_amp():
    memory = SIZE.memory()["backbone activations"]
    assert replace(SIZE, batch_size=8).memory()["backbone activations"] == 2 * memory
    assert replace(SIZE, amp=None).memory()["backbone activations"] == 2 * memory
    assert replace(SIZE, recompute=True).memory()["backbone activations"] == memory * (100 + 100) / (300 + 100)


def test_the_total_is_the_sum_of_the_parts():
    assert SIZE.total() == sum(SIZE.memory().values()) > OVERHEAD


def test_one_gpu_sends_nothing():
    assert set(replace(SIZE, num_gpus=1).sent().values()) == {0}


def test_ring_all_reduce_sends_twice_all_but_one_part():
    size = replace(SIZE, num_gpus=4, class_parallel=False)
    assert size.sent() == {
        "backbone gradient, all-reduce": 2 * 3 * 1000,
        "head gradient, all-reduce": 2 * 3 * 1001 * 8,
    }


def test_a_fitting_sample_rate_fits_and_the_next_larger_does_not():
    size = replace(SIZE, class_num=10**9)
    full = size.total()
    memory = full - size.memory()["head gradient"] // 2
    assert size.fitting_sample_rate(full) == 1.0
    assert size.fitting_sample_rate(memory) == 0.1  # a sampled row is there twice, with its gradient and momentum
    assert replace(size, sample_rate=0.1).total() <= memory < replace(size, sample_rate=0.2).total()
    assert size.fitting_sample_rate(GIB) is None


def test_what_does_not_fit_is_told_what_helps():
    size = replace(SIZE, class_num=10**9)
    assert fit(size, 1000 * GIB) == f"It fits: about {size.total() / GIB:.1f} GiB of 1000.0 GiB."
    assert fit(replace(size, class_parallel=False), GIB).endswith(
        "GiB of 1.0 GiB. What helps: class_parallel: True in Arch.Head; recompute: True in Arch.Backbone (IResNet); "
        "a smaller batch with Global.update_freq; more GPUs."
    )
    assert "sample_rate: 0.1 in Arch.Head" in fit(size, size.total() - size.memory()["head gradient"] // 2)


def test_training_warns_where_it_would_not_fit(tiny_net_config, monkeypatch, log_lines):
    from ppfacerec.config import load_config
    from ppfacerec.engine import Engine, engine

    monkeypatch.setattr(engine, "device_memory", lambda: GIB)
    config, _ = load_config(tiny_net_config(), ["Global.epochs=1", "Optimizer.lr.warmup_epoch=0"])
    Engine(config).train()
    warnings = [r.getMessage() for r in log_lines.records if r.levelname == "WARNING"]
    assert len(warnings) == 1
    assert warnings[0].startswith("Memory, estimated by `ppfacerec plan`: It does not fit: about 1.7 GiB of 1.0 GiB.")


def test_plan_prints_parts_traffic_and_the_verdict(capsys):
    arguments = "plan --classes 2000000 --embedding-size 64 --gpus 8 --memory 80 --backbone MobileFaceNet"
    assert cli.main(arguments.split()) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "MobileFaceNet, 2,000,000 classes x 64 sharded over 8 GPUs, batch 128 per GPU, sample rate 1,"
    )
    for words in ("head gradient", "backbone gradient, all-reduce", "It fits: about"):
        assert words in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--classes 0", "--classes: expected a whole number of at least 1, found 0."),
        ("--classes 9 --batch -1", "--batch: expected a whole number of at least 1, found -1."),
        ("--classes 9 --sample-rate 0", "--sample-rate: expected a number above 0 and up to 1, found 0.0."),
        ("--classes 9 --backbone IResNet51", "Unknown backbone 'IResNet51'. Did you mean 'IResNet50'?"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message, capsys):
    assert cli.main(["plan", *arguments.split()]) == cli.EXIT_ERROR
    assert message in capsys.readouterr().out
