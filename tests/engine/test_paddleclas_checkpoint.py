"""Laws of checkpoints that PaddleClas wrote: training goes on here as it would have gone on there."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import paddleclas_writer
import pytest
import tiny_plugin
from launching import ROOT, launch

from ppfacerec.cli import main
from ppfacerec.config import load_config
from ppfacerec.core.io import safe_pickle
from ppfacerec.engine import Engine
from ppfacerec.heads import ArcMargin
from ppfacerec.losses import CELoss
from ppfacerec.optim import OPTIMIZERS, parameter_groups
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.training.checkpoints.checkpoint import complete, load_states, write_snapshot
from ppfacerec.training.checkpoints.optimizer_state import optimizer_tensors
from ppfacerec.training.checkpoints.paddleclas_checkpoint import is_paddleclas, resume_paddleclas
from ppfacerec.training.checkpoints.pretrained import read_weights
from ppfacerec.training.checkpoints.saved_layout import saved_arrays
from ppfacerec.training.checkpoints.snapshot import take_snapshot
from ppfacerec.training.ema import EMA
from ppfacerec.training.state import Progress, TrainState

# A bias before a batch norm has no gradient but rounding, which AdamW makes steps of.
NOISE = ("backbone.features.0.bias", "backbone.features.3.bias")
DECAYS = {"AdamW": 0.05, "Momentum": 5e-4}


def write(folder: Path, optimizer: str, *options: str) -> Path:
    """A checkpoint made by plain Paddle in a process of its own."""
    folder.mkdir(exist_ok=True)
    script = Path(paddleclas_writer.__file__)
    done = subprocess.run(
        [sys.executable, str(script), str(folder / "latest"), optimizer, *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder / "latest"


@pytest.fixture(scope="module")
def adamw(tmp_path_factory):
    return write(tmp_path_factory.mktemp("adamw"), "AdamW")


@pytest.fixture(scope="module")
def momentum(tmp_path_factory):
    return write(tmp_path_factory.mktemp("momentum"), "Momentum", "as_list")


def build(name: str, sample_rate: float = 1.0):
    paddle.seed(0)
    writer = paddleclas_writer
    head = ArcMargin(16, writer.CLASSES, margin=writer.MARGIN, scale=writer.SCALE)
    recognizer = FaceRecognizer(tiny_plugin.TinyNet(dropout=0.0), head)
    groups = parameter_groups([recognizer], DECAYS[name], name == "AdamW")
    return recognizer, OPTIMIZERS.get(name)(groups=groups, weight_decay=DECAYS[name])


def next_step(recognizer, optimizer, prefix: Path) -> dict[str, np.ndarray]:
    """Weights after the step that the writer took after it had saved."""
    images, labels = map(paddle.to_tensor, paddleclas_writer.batch(3))
    with np.load(prefix.parent / "after.npz") as after:
        optimizer.set_lr(after["learning_rate"].item())
    recognizer.train()
    CELoss()(recognizer.scores(recognizer(images), labels), labels).backward()
    optimizer.step()
    return saved_arrays(recognizer, recognizer.state_dict())


def resumed_progress(prefix, recognizer, optimizer):
    state = TrainState(recognizer, optimizer)
    resume_paddleclas(prefix, state, steps_per_epoch=7)
    return state.progress


def assert_as_paddles_own(weights, prefix):
    with np.load(prefix.parent / "after.npz") as after:
        assert {*weights, "learning_rate"} == set(after)
        for name in weights:
            if name in NOISE:
                continue
            np.testing.assert_allclose(weights[name], after[name], rtol=1e-4, atol=2e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["AdamW", "Momentum"])
def test_the_next_step_equals_paddles_own(name, request, log_lines):
    prefix = request.getfixturevalue(name.lower())
    recognizer, optimizer = build(name)
    progress = resumed_progress(prefix, recognizer, optimizer)
    assert (progress.epoch, progress.iteration, progress.global_step) == (4, 0, 21)
    assert (progress.best_accuracy, progress.best_epoch) == (None, 0)
    assert_as_paddles_own(next_step(recognizer, optimizer, prefix), prefix)
    kinds = {"AdamW": "moment1_0, moment2_0, beta1_pow_acc_0, beta2_pow_acc_0", "Momentum": "velocity_0"}[name]
    assert log_lines.records[-1].getMessage() == (
        f"Resuming from PaddleClas's checkpoint {prefix} with epoch 4, optimizer step 21.\n"
        f"  taken: 16 weights of latest.pdparams; the optimizer's state ({kinds}) of all 12 trained parameters\n"
        "  not taken: the best metric, 0.75 (from a different evaluation; best_model is chosen from scratch); "
        "the order of samples and random numbers (each program has its own); "
        "the learning rate (the schedule of the config gives it, at this step)"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["AdamW", "Momentum"])
def test_the_law_can_fail(name, request):
    """Without the optimizer's state, or with the state of other parameters, the next step is another one."""
    prefix = request.getfixturevalue(name.lower())
    recognizer, optimizer = build(name)
    other = OPTIMIZERS.get(name)(groups=parameter_groups([recognizer], 0, True))
    resume_paddleclas(prefix, TrainState(recognizer, other), 7)
    weights = next_step(recognizer, optimizer, prefix)
    with np.load(prefix.parent / "after.npz") as after:
        assert max(np.abs(weights[key] - after[key]).max() for key in weights if key not in NOISE) > 1e-3


@pytest.mark.slow
def test_the_writers_names_tell_no_layer(adamw):
    """Else the test would not be about the names."""
    table = safe_pickle.load(f"{adamw}.pdparams")["StructuredToParameterName@@"]
    assert table["backbone.features.4.weight"] == "create_parameter_0.w_0"
    assert table["backbone.features.1.weight"] == "create_parameter_1.w_0"
    assert table["head.weight"] == "arc_margin_0.w_0"


@pytest.mark.slow
def test_without_the_table_of_names_the_order_tells(tmp_path, log_lines):
    prefix = write(tmp_path, "AdamW", "without_table")
    recognizer, optimizer = build("AdamW")
    resume_paddleclas(prefix, TrainState(recognizer, optimizer), 7)
    assert_as_paddles_own(next_step(recognizer, optimizer, prefix), prefix)
    assert "of all 12 trained parameters" in log_lines.text


def copied(prefix: Path, folder: Path, **changed) -> Path:
    """The checkpoint with other content in some of its files; None: without that file."""
    for suffix in ("pdparams", "pdopt", "pdstates"):
        content = changed.get(suffix, safe_pickle.load(f"{prefix}.{suffix}"))
        if content is not None:
            (folder / f"latest.{suffix}").write_bytes(pickle.dumps(content))
    return folder / "latest"


def resumed(prefix, name, log_lines):
    recognizer, optimizer = build(name)
    progress = resumed_progress(prefix, recognizer, optimizer)
    return recognizer, optimizer, progress, log_lines.records[-1].getMessage()


def test_another_optimizers_state_is_left_out_and_the_log_says_so(adamw, log_lines):
    recognizer, optimizer, progress, message = resumed(adamw, "Momentum", log_lines)
    assert "taken: 16 weights of latest.pdparams\n" in message
    assert (
        "not taken: the optimizer's state (it has no velocity_0 for backbone.features.0.weight: it is from another optimizer, or "
        "backbone.features.0.weight was not trained); it starts from scratch; the best metric" in message
    )
    assert progress.epoch == 4
    assert optimizer_tensors(TrainState(recognizer, optimizer)) == {}


def test_a_state_that_misses_a_parameter_or_has_another_shape_is_left_out(adamw, tmp_path, log_lines):
    state = safe_pickle.load(f"{adamw}.pdopt")
    key = "arc_margin_0.w_0_moment2_0"
    for change, words in (
        ({k: v for k, v in state.items() if k != key}, "it has no moment2_0 for head.weight"),
        ({**state, key: state[key].T}, "moment2_0 of head.weight has shape (5, 16) and dtype float32"),
        ({**state, key: state[key].astype(int)}, "moment2_0 of head.weight has shape (16, 5) and dtype int64"),
    ):
        *_, message = resumed(copied(adamw, tmp_path, pdopt=change), "AdamW", log_lines)
        assert words in message
        assert "it starts from scratch" in message


def test_without_a_table_a_wrong_order_or_number_is_no_certainty(adamw, tmp_path, log_lines):
    weights = safe_pickle.load(f"{adamw}.pdparams")
    del weights["StructuredToParameterName@@"]
    state = safe_pickle.load(f"{adamw}.pdopt")
    first = next(iter(state))
    for change in (dict(reversed(state.items())), {k: v for k, v in state.items() if k != first}):
        *_, message = resumed(copied(adamw, tmp_path, pdparams=weights, pdopt=change), "AdamW", log_lines)
        assert (
            "backbone.features.0.weight's automatic name is unknown: neither a table in .pdparams nor the order"
            in message
        )


def test_a_table_of_names_that_the_state_has_not_is_no_table(adamw, tmp_path):
    """As in a file that was loaded and saved again, whose tensors have other names."""
    weights = safe_pickle.load(f"{adamw}.pdparams")
    weights["StructuredToParameterName@@"] = {k: f"generated_{i}" for i, k in enumerate(weights)}
    recognizer, optimizer = build("AdamW")
    resume_paddleclas(copied(adamw, tmp_path, pdparams=weights), TrainState(recognizer, optimizer), 7)
    assert_as_paddles_own(next_step(recognizer, optimizer, adamw), adamw)


def test_missing_files_are_said(adamw, tmp_path, log_lines):
    *_, message = resumed(copied(adamw, tmp_path, pdopt=None), "AdamW", log_lines)
    assert "the optimizer's state (latest.pdopt is not there)" in message
    (tmp_path / "more").mkdir()
    prefix = copied(adamw, tmp_path / "more", pdstates=None)
    assert is_paddleclas(prefix)
    *_, progress, message = resumed(prefix, "AdamW", log_lines)
    assert progress.epoch == 1
    assert "the number of finished epochs (missing in .pdstates)" in message


@pytest.mark.slow
def test_with_ema_the_weights_are_in_pdema_and_the_averages_in_pdparams(tmp_path, log_lines):
    prefix = write(tmp_path, "AdamW", "ema")
    recognizer, optimizer = build("AdamW")
    ema = EMA(recognizer, 0.9)
    resume_paddleclas(prefix, TrainState(recognizer, optimizer, ema=ema), 7)
    own = saved_arrays(recognizer, recognizer.state_dict())
    averages = saved_arrays(recognizer, ema.tensors())
    for name in own:
        np.testing.assert_allclose(averages[name], own[name] * 0.5, rtol=1e-6, err_msg=name)
    assert (
        "16 weights of latest.pdema; the averages of .pdparams; the optimizer's" in log_lines.records[-1].getMessage()
    )
    assert_as_paddles_own(next_step(recognizer, optimizer, prefix), prefix)


def test_float32_master_weights_of_amp_are_taken_for_the_rounded_ones(adamw, tmp_path, log_lines):
    """O2 keeps weights in half precision; the optimizer has the exact ones, and its state under their names."""
    weights, state = safe_pickle.load(f"{adamw}.pdparams"), safe_pickle.load(f"{adamw}.pdopt")
    table = weights["StructuredToParameterName@@"]
    masters = {
        table[k]: ("eager_tmp_0", v) for k, v in weights.items() if k in table and f"{table[k]}_moment1_0" in state
    }
    rounded = {k: v if k not in table else v.astype("float16").astype("float32") for k, v in weights.items()}
    renamed = {}
    for key, value in state.items():
        owner = next((name for name in masters if key.startswith(f"{name}_")), None)
        renamed[key if owner is None else f"{owner}_fp32_master_0_{key[len(owner) + 1 :]}"] = value
    prefix = copied(adamw, tmp_path, pdparams=rounded, pdopt=[{**renamed, "master_weights": masters}])
    recognizer, *_, message = resumed(prefix, "AdamW", log_lines)
    own = saved_arrays(recognizer, recognizer.state_dict())
    for name in masters:
        structured = next(k for k, v in table.items() if v == name)
        np.testing.assert_array_equal(own[structured], weights[structured], err_msg=structured)
    assert "12 of them as the float32 weights in .pdopt; the optimizer's state" in message


def test_a_whole_training_goes_on_from_it(tiny_net_config, tmp_path, adamw, log_lines):
    path = tiny_net_config(**{"Arch.Backbone": {"name": "TinyNet", "dropout": 0.0}})
    overrides = [f"Global.checkpoints={adamw}", "Global.epochs=5", "Global.eval_during_train=False"]
    config, notes = load_config(path, overrides)
    Engine(config, notes).train()
    assert "Resuming from PaddleClas's checkpoint" in log_lines.text
    lines = [r.getMessage() for r in log_lines.records if "[Train]" in r.getMessage()]
    assert lines[0].startswith("[Train][Epoch 4/5][Iter: 0/5]")
    weights = read_weights(tmp_path / "output" / "latest")
    assert not np.array_equal(weights["head.weight"], read_weights(adamw)["head.weight"])
    config, notes = load_config(path, [*overrides, f"Global.checkpoints={tmp_path}/output/latest", "Global.epochs=6"])
    Engine(config, notes).train()  # and from ours, as ever
    assert "Resumed from" in log_lines.text


def test_weights_of_another_network_are_refused(adamw):
    recognizer = FaceRecognizer(tiny_plugin.TinyNet(dropout=0.0), ArcMargin(16, 7))
    optimizer = OPTIMIZERS.get("AdamW")(groups=parameter_groups([recognizer], 0, True))
    with pytest.raises(ValueError) as caught:
        resume_paddleclas(adamw, TrainState(recognizer, optimizer), 7)
    assert (
        str(caught.value)
        == f"{adamw}.pdparams does not fit the network of the config: 1 other shape: head.weight [16, 5] for [16, 7]."
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pdstates": {"epoch": "three"}}, "latest.pdstates: expected the number of finished epochs as 'epoch', found 'three'."),
        ({"pdstates": {"epoch": -1}}, "latest.pdstates: expected the number of finished epochs as 'epoch', found -1."),
        ({"pdstates": [1]}, "latest.pdstates: expected a dict with 'epoch' and 'metric', found list."),
        ({"pdopt": 5}, "latest.pdopt: expected an optimizer's state dict, found int."),
    ],
)  # fmt: skip
def test_a_file_with_other_content_is_named(adamw, tmp_path, changed, message):
    prefix = copied(adamw, tmp_path, **changed)
    recognizer, optimizer = build("AdamW")
    with pytest.raises(ValueError) as caught:
        resume_paddleclas(prefix, TrainState(recognizer, optimizer), 7)
    assert str(caught.value) == f"{tmp_path}/{message}"


def test_nothing_in_it_is_run(adamw, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "was_run",))

    for suffix in ("pdparams", "pdopt", "pdstates"):
        prefix = copied(adamw, tmp_path, **{suffix: {"epoch": 1, "x": Evil()}})
        recognizer, optimizer = build("AdamW")
        with pytest.raises(ValueError, match=f"latest.{suffix}"):
            resume_paddleclas(prefix, TrainState(recognizer, optimizer), 7)
    assert not (tmp_path / "was_run").exists()


def test_our_own_checkpoint_without_its_manifest_is_not_taken_for_paddleclas(tiny_net_config, tmp_path):
    config, notes = load_config(tiny_net_config(), ["Global.eval_during_train=False", "Global.epochs=2"])
    Engine(config, notes).train()
    latest = tmp_path / "output" / "latest"
    assert not is_paddleclas(latest)
    (tmp_path / "output" / "latest.manifest.json").unlink()
    assert not is_paddleclas(latest)
    (tmp_path / "output" / "latest.pdstates").unlink()
    assert not is_paddleclas(latest)


def test_a_head_that_samples_its_classes_gets_the_state_of_all(adamw):
    paddle.seed(0)
    head = ArcMargin(16, paddleclas_writer.CLASSES, sample_rate=0.4)
    head.prepare(paddleclas_writer.BATCH)
    recognizer = FaceRecognizer(tiny_plugin.TinyNet(dropout=0.0), head)
    optimizer = OPTIMIZERS.get("AdamW")(groups=parameter_groups([recognizer], 0.05, True))
    state = TrainState(recognizer, optimizer)
    resume_paddleclas(adamw, state, 7)
    sparse = state.sparse
    images, labels = map(paddle.to_tensor, paddleclas_writer.batch(3))
    CELoss()(recognizer.scores(recognizer(images), labels), labels).backward()
    before = {slot: tensor.numpy().T for slot, tensor in sparse.slots.items()}  # of all classes
    with sparse.rows_of_step():
        optimizer.step()
    saved = safe_pickle.load(f"{adamw}.pdopt")
    for slot in ("moment1_0", "moment2_0"):
        np.testing.assert_array_equal(before[slot], saved[f"arc_margin_0.w_0_{slot}"])


@pytest.mark.slow
def test_two_processes_that_share_the_classes_go_on_from_it(tiny_net_config, tmp_path, adamw):
    """With a rate of 0 nothing moves, so that what they save is what they read."""
    path = tiny_net_config(**{"Arch.Backbone": {"name": "TinyNet", "dropout": 0.0}})
    output = launch(
        2, str(ROOT / "tools" / "train.py"), "-c", str(path), "-o", f"Global.checkpoints={adamw}", "Global.epochs=4",
        "Global.eval_during_train=False", "Arch.Head.class_parallel=True", "DataLoader.Train.sampler.batch_size=2",
        "Optimizer.lr={name: Piecewise, decay_epochs: [1], values: [0.01, 0.0]}", log_dir=tmp_path / "log",
    )  # fmt: skip
    assert "of all 12 trained parameters" in output
    assert "Health, learning_rate_zero" in output
    saved, read = read_weights(tmp_path / "output" / "latest"), read_weights(adamw)
    for name in read:
        if not name.endswith(("_mean", "_variance")):
            np.testing.assert_array_equal(saved[name], read[name], err_msg=name)
    optimizers, _ = load_states(tmp_path / "output" / "latest")
    power = safe_pickle.load(f"{adamw}.pdopt")["arc_margin_0.w_0_beta1_pow_acc_0"]
    np.testing.assert_allclose(optimizers["head.weight"]["beta1_pow_acc_0"], power * 0.9**5, rtol=1e-5)
    assert optimizers["head.weight"]["moment1_0"].shape == (16, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["AdamW", "Momentum"])
def test_a_checkpoint_goes_there_and_back_and_plain_paddle_goes_on_from_it(name, request, tmp_path):
    theirs = request.getfixturevalue(name.lower())
    recognizer, optimizer = build(name)
    state = TrainState(recognizer, optimizer)
    resume_paddleclas(theirs, state, steps_per_epoch=1)
    lr = {"name": "Cosine", "learning_rate": 0.01, "warmup_epoch": 1}
    states = {
        "run": "r", "config": {"Optimizer": {"lr": lr}, "Global": {"epochs": 101}},
        "pace": {"iterations": 1, "update_freq": 1, "global_batch_size": 8},
    }  # fmt: skip
    snapshot = take_snapshot(state, states)
    complete(tmp_path / "ours", snapshot, write_snapshot(tmp_path / "ours", snapshot))
    arguments = [
        "convert-checkpoint",
        str(tmp_path / "ours"),
        str(tmp_path / "latest"),
        "--to",
        "paddleclas",
        "--like",
        str(theirs),
    ]
    assert main(arguments) == 0
    table, back = (
        safe_pickle.load(f"{p}.pdparams")["StructuredToParameterName@@"] for p in (theirs, tmp_path / "latest")
    )
    assert {k: table[k] for k in back} == back
    write(tmp_path, name, "go_on")
    with np.load(theirs.parent / "after.npz") as expected, np.load(tmp_path / "went_on.npz") as found:
        for key in set(expected) - set(NOISE):
            np.testing.assert_allclose(found[key], expected[key], rtol=1e-4, atol=2e-5, err_msg=key)


def test_a_checkpoint_that_does_not_fit_the_example_is_not_converted(adamw, tmp_path, capsys):
    recognizer, optimizer = build("AdamW")
    snapshot = take_snapshot(TrainState(recognizer, optimizer, progress=Progress(epoch=2, iteration=1)), {})
    complete(tmp_path / "ours", snapshot, write_snapshot(tmp_path / "ours", snapshot))
    arguments = [
        "convert-checkpoint",
        str(tmp_path / "ours"),
        str(tmp_path / "to"),
        "--to",
        "paddleclas",
        "--like",
        str(adamw),
    ]
    assert main(arguments) == 1
    assert "is in the middle of epoch 2, where PaddleClas cannot resume; use an epoch_N." in capsys.readouterr().out
