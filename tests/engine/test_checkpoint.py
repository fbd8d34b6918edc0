"""Laws of checkpoints and weights: complete or absent, and nothing loads that does not fit."""

from __future__ import annotations

import pickle

import numpy as np
import paddle
import pytest

from ppfacerec.core.io import safe_pickle
from ppfacerec.heads import ArcMargin
from ppfacerec.optim import OPTIMIZERS, parameter_groups
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.training.checkpoints.checkpoint import complete, gather_entries, load_states, write_snapshot
from ppfacerec.training.checkpoints.files import checkpoint_files
from ppfacerec.training.checkpoints.optimizer_state import optimizer_tensors, set_optimizer_state
from ppfacerec.training.checkpoints.pretrained import load_pretrained, read_weights
from ppfacerec.training.checkpoints.saved_layout import saved_arrays
from ppfacerec.training.checkpoints.snapshot import take_snapshot
from ppfacerec.training.ema import EMA
from ppfacerec.training.state import Progress, TrainState


def save_checkpoint(prefix, recognizer, optimizer, facts, ema=None, progress=None, **options):
    """What a training's saver does, in the foreground and in one process."""
    checkpoint_files.finish_interrupted_save(prefix)
    state = TrainState(recognizer, optimizer, ema=ema, progress=progress or Progress())
    snapshot = take_snapshot(state, facts, **options)
    complete(prefix, snapshot, gather_entries(write_snapshot(prefix, snapshot)))


class TinyBackbone(paddle.nn.Layer):
    embedding_size = 8

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv = paddle.nn.Conv2D(3, width, 3)
        self.bn = paddle.nn.BatchNorm2D(width)
        self.fc = paddle.nn.Linear(width, 8)

    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).mean([2, 3]))


def build(optimizer_name="AdamW", class_num=5, seed=0):
    paddle.seed(seed)
    recognizer = FaceRecognizer(TinyBackbone(), ArcMargin(8, class_num))
    optimizer = OPTIMIZERS.get(optimizer_name)(groups=parameter_groups([recognizer], 0.01, True))
    optimizer.set_lr(0.1)
    return recognizer, optimizer


def step(recognizer, optimizer, seed):
    images = paddle.to_tensor(np.random.default_rng(seed).standard_normal((6, 3, 8, 8)).astype("float32"))
    recognizer.scores(recognizer(images), paddle.to_tensor([0, 1, 2, 3, 4, 0])).dense().mean().backward()
    optimizer.step()
    optimizer.clear_grad()


def arrays(layer):
    """The tensors as a file has them."""
    if isinstance(layer, FaceRecognizer):
        return saved_arrays(layer, layer.state_dict())
    return {k: v.numpy().copy() for k, v in layer.state_dict().items()}


def whole(weights):
    """With a head that is in files of its own read as one array."""
    return {k: v if isinstance(v, np.ndarray) else v.rows(0, v.shape[1]).T for k, v in weights.items()}


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)


@pytest.mark.parametrize("head", ["whole", "shards"])
@pytest.mark.parametrize("name", ["AdamW", "Adam", "Momentum", "SGD"])
def test_training_goes_on_bit_identically_after_loading(tmp_path, name, head):
    recognizer, optimizer = build(name)
    for seed in range(3):
        step(recognizer, optimizer, seed)
    save_checkpoint(tmp_path / "latest", recognizer, optimizer, {}, progress=Progress(epoch=2), head=head)
    again, other_optimizer = build(name, seed=1)
    state, states = load_states(tmp_path / "latest")
    load_pretrained(again, str(tmp_path / "latest"))
    set_optimizer_state(TrainState(again, other_optimizer), state)
    assert states["progress"]["epoch"] == 2
    for seed in range(3, 6):
        step(recognizer, optimizer, seed)
        step(again, other_optimizer, seed)
    assert_equal(arrays(recognizer), arrays(again))


@pytest.mark.parametrize("name", ["AdamW", "Momentum"])
def test_optimizer_state_that_was_loaded_is_there_before_the_first_step(tmp_path, name):
    """Paddle 2.6's own state_dict forgets it until then."""
    recognizer, optimizer = build(name)
    step(recognizer, optimizer, 0)
    before = take_snapshot(TrainState(recognizer, optimizer), {}).files[".pdopt"]
    again, other_optimizer = build(name, seed=1)
    set_optimizer_state(TrainState(again, other_optimizer), before)
    after = take_snapshot(TrainState(again, other_optimizer), {}).files[".pdopt"]
    assert before.keys() == after.keys()
    for key in before:
        assert_equal(before[key], after[key])


def test_head_in_shards_has_all_of_it_and_the_other_files_none(tmp_path):
    recognizer, optimizer = build()
    ema = EMA(recognizer, 0.9)
    step(recognizer, optimizer, 0)
    ema.update(1)
    save_checkpoint(tmp_path / "whole", recognizer, optimizer, {}, ema=ema)
    save_checkpoint(tmp_path / "shards", recognizer, optimizer, {}, ema=ema, head="shards")
    assert "head.weight" not in safe_pickle.load(tmp_path / "shards.pdparams")
    assert_equal(whole(read_weights(tmp_path / "shards")), read_weights(tmp_path / "whole"))
    (optimizers, states), (others, other_states) = load_states(tmp_path / "whole"), load_states(tmp_path / "shards")
    for one, other in [
        (states["ema"], other_states["ema"]),
        *((optimizers[name], others[name]) for name in optimizers),
    ]:
        assert_equal(one, whole(other))


def test_pretrained_weights_with_a_head_in_shards_bring_the_head(tmp_path):
    recognizer, optimizer = build()
    save_checkpoint(tmp_path / "best_model", recognizer, optimizer, {}, head="shards")
    again, _ = build(seed=1)
    assert "head.weight" in load_pretrained(again, str(tmp_path / "best_model")).matched
    assert_equal(arrays(again), arrays(recognizer))


def test_shards_of_another_number_of_processes_are_removed(tmp_path):
    recognizer, optimizer = build()
    save_checkpoint(tmp_path / "latest", recognizer, optimizer, {}, head="shards")
    (tmp_path / "latest.head_1_of_2.pdhead").write_bytes(b"old")
    (tmp_path / "latest_too.head_1_of_2.pdhead").write_bytes(b"another checkpoint's")
    save_checkpoint(tmp_path / "latest", recognizer, optimizer, {}, head="whole")
    assert files(tmp_path) == ["latest.manifest.json", "latest.pdopt", "latest.pdparams", "latest.pdstates",
                               "latest_too.head_1_of_2.pdhead"]  # fmt: skip


def test_a_head_left_out_is_in_no_file_and_the_backbone_loads(tmp_path, log_lines):
    recognizer, optimizer = build()
    step(recognizer, optimizer, 0)
    save_checkpoint(tmp_path / "best_model", recognizer, optimizer, {}, head="none")
    assert not [name for name in read_weights(tmp_path / "best_model") if name.startswith("head")]
    optimizers, _ = load_states(tmp_path / "best_model")
    assert set(optimizers["head.weight"]) == {"beta1_pow_acc_0", "beta2_pow_acc_0"}
    again, _ = build(seed=1)
    load_pretrained(again, str(tmp_path / "best_model"))
    assert_equal(arrays(again.backbone), arrays(recognizer.backbone))
    assert "the head is not loaded but initialised from scratch (1 missing: head.weight)" in log_lines.text


def test_optimizer_state_has_structured_names():
    recognizer, optimizer = build()
    step(recognizer, optimizer, 0)
    state = optimizer_tensors(TrainState(recognizer, optimizer))
    assert set(state) == {k for k, v in recognizer.state_dict().items() if not v.stop_gradient}
    assert set(state["head.weight"]) == {"moment1_0", "moment2_0", "beta1_pow_acc_0", "beta2_pow_acc_0"}


def test_paddle_reads_our_weights(tmp_path):
    recognizer, optimizer = build()
    save_checkpoint(tmp_path / "latest", recognizer, optimizer, {})
    loaded = paddle.load(str(tmp_path / "latest.pdparams"))
    assert_equal({k: np.asarray(v) for k, v in loaded.items()}, arrays(recognizer))
    assert {"backbone.conv.weight", "head.weight"} <= set(loaded)


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs."""


def files(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("head", ["whole", "shards"])
@pytest.mark.parametrize("operation", ["replace", "fsync"])
def test_a_save_killed_at_any_point_leaves_the_old_or_the_new_checkpoint(tmp_path, monkeypatch, operation, head):
    """Kill the save at its first, second, ... call of os.replace or os.fsync, until one goes through."""
    recognizer, optimizer = build()
    step(recognizer, optimizer, 0)
    prefix = tmp_path / "latest"
    original, outcomes = getattr(checkpoint_files.os, operation), []
    for kill_at in range(50):
        save_checkpoint(prefix, recognizer, optimizer, {"number": 2 * kill_at}, head=head)
        old = arrays(recognizer)
        step(recognizer, optimizer, kill_at)
        calls = iter(range(100))

        def die(*arguments, kill_at=kill_at, calls=calls):
            if next(calls) == kill_at:
                raise Killed
            return original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint_files.os, operation, die)
            try:
                save_checkpoint(prefix, recognizer, optimizer, {"number": 2 * kill_at + 1}, head=head)
                finished = True
            except Killed:
                finished = False
        checkpoint_files.finish_interrupted_save(prefix)
        _, states = load_states(prefix)
        outcomes.append(states["number"] % 2)
        assert_equal(whole(read_weights(prefix)), arrays(recognizer) if states["number"] % 2 else old)
        own = ["latest.head_0_of_1.pdhead"] if head == "shards" else []
        assert files(tmp_path) == [*own, "latest.manifest.json", "latest.pdopt", "latest.pdparams", "latest.pdstates"]
        if finished:
            break
    assert finished
    assert 0 in outcomes
    assert outcomes == sorted(outcomes)  # from some point on the new one counts


@pytest.mark.parametrize("suffix", [".pdparams", ".pdopt", ".pdstates", ".head_0_of_1.pdhead"])
def test_a_damaged_file_is_named(tmp_path, suffix):
    recognizer, optimizer = build()
    save_checkpoint(tmp_path / "latest", recognizer, optimizer, {}, head="shards")
    path = tmp_path / f"latest{suffix}"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"is damaged: .*latest\{suffix} is not the file that was saved"):
        load_states(tmp_path / "latest")
    path.unlink()
    with pytest.raises(ValueError, match=rf"is incomplete: .*latest\{suffix} is missing\. Resume from another"):
        load_states(tmp_path / "latest.pdparams")


def test_a_checkpoint_without_manifest_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"latest\.manifest\.json is missing, so .* give them as Global\.pretrained"):
        load_states(tmp_path / "latest")


def save_weights(path, arrays):
    path.write_bytes(pickle.dumps(arrays, protocol=4))
    return str(path)


def test_backbone_weights_alone_load_into_a_recognizer(tmp_path):
    source, _ = build(seed=3)
    target, _ = build(seed=4)
    path = save_weights(tmp_path / "backbone.pdparams", arrays(source.backbone))
    report = load_pretrained(target, path)
    assert len(report.matched) == len(source.backbone.state_dict())
    assert report.missing == ("head.weight",)
    assert_equal(arrays(source.backbone), arrays(target.backbone))


def test_another_class_num_keeps_the_new_head_and_says_so(tmp_path, log_lines):
    source, _ = build(class_num=9)
    target, _ = build(class_num=5)
    before = target.head.weight.numpy().copy()
    load_pretrained(target, save_weights(tmp_path / "w.pdparams", arrays(source)))
    np.testing.assert_array_equal(target.head.weight.numpy(), before)
    assert (
        "the head is not loaded but initialised from scratch (1 other shape: head.weight [8, 9] for [8, 5])"
        in log_lines.text
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"backbone.conv.weight": None}, "1 missing: backbone.conv.weight. 8 tensors matched."),
        ({"backbone.more": np.zeros(3)}, "1 unexpected: backbone.more. 9 tensors matched."),
        (
            {"backbone.fc.bias": np.zeros(9)},
            "1 other shape: backbone.fc.bias [9] for [8]. 8 tensors matched.",
        ),
    ],
)
def test_weights_of_another_backbone_are_refused_and_nothing_is_loaded(tmp_path, change, expected):
    source, _ = build(seed=3)
    target, _ = build(seed=4)
    before = arrays(target)
    weights = {k: v for k, v in {**arrays(source), **change}.items() if v is not None}
    with pytest.raises(ValueError, match="does not fit the backbone of the config") as caught:
        load_pretrained(target, save_weights(tmp_path / "w.pdparams", weights))
    assert expected in str(caught.value)
    assert_equal(before, arrays(target))


class Hostile:
    def __reduce__(self):
        import os

        return os.system, ("touch hacked",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": Hostile()}, "system"),
        ([1, 2], r"expected a dict of arrays \(a state dict\), found list"),
        ({"a": "text"}, r"expected a dict of arrays, found \['a'\]"),
        ({}, "expected a dict of arrays, found an empty one"),
    ],
)
def test_a_file_that_is_no_state_dict_is_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_weights(save_weights(tmp_path / "w.pdparams", content))
    assert files(tmp_path) == ["w.pdparams"]


def test_sizes_that_disagree_are_named():
    with pytest.raises(
        ValueError, match="embeddings have 8 numbers, the head expects 16; make Arch.Head.embedding_size"
    ):
        FaceRecognizer(TinyBackbone(), ArcMargin(16, 5))
