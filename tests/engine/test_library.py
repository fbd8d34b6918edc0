"""Laws of ppfacerec as a library: train and evaluate take what a program has, and leave the process as it is."""

from __future__ import annotations

import os

import pytest
import yaml

import ppfacerec
from ppfacerec.config import ConfigError, load_config
from ppfacerec.core.device import cpu_tuning
from ppfacerec.engine import Engine


def test_a_mapping_is_bound_and_checked_as_its_file_is(tiny_net_config):
    path = tiny_net_config()
    tree = yaml.safe_load(path.read_text())
    assert load_config(tree, ["Global.epochs=3"]) == load_config(path, ["Global.epochs=3"])
    assert tree == yaml.safe_load(path.read_text())
    assert load_config(load_config(path)[0])[0] == load_config(path)[0]
    with pytest.raises(ConfigError) as of_file:
        load_config(path, ["Global.epochs=0"])
    with pytest.raises(ConfigError, match="^1 problem in the config:") as of_mapping:
        load_config(tree, ["Global.epochs=0"])
    assert of_mapping.value.problems == of_file.value.problems


def test_train_and_evaluate_take_a_mapping_and_tell_callbacks(tiny_net_config, monkeypatch, tmp_path):
    monkeypatch.setattr(cpu_tuning, "_keep_freed_memory", lambda: pytest.fail("not asked for"))
    before, heard = dict(os.environ), []

    class Listener(ppfacerec.Callback):
        def on_epoch(self, state, epoch):
            heard.append(epoch)

    tree = yaml.safe_load(tiny_net_config().read_text())
    evaluations = ppfacerec.train(tree, ["Global.epochs=2"], [Listener()])
    assert heard == list(evaluations) == [1, 2]
    weights = f"Global.pretrained_model={tmp_path}/output/latest"
    again = ppfacerec.evaluate(tree, [weights])
    assert again.average_accuracy == evaluations[2].average_accuracy
    changed = {name for name in os.environ if os.environ[name] != before.get(name)} - {"PYTEST_CURRENT_TEST"}
    assert changed <= {"OPENCV_IO_MAX_IMAGE_PIXELS"}  # docs/security.md: the limit of what an image may unfold to


def test_an_engine_refuses_a_training_for_which_its_config_was_not_checked(tiny_net_config, tmp_path):
    tree = yaml.safe_load(tiny_net_config().read_text())
    del tree["Optimizer"]
    engine = Engine(*load_config(tree, [f"Global.output_dir={tmp_path}/o"], "eval"))
    with pytest.raises(ConfigError, match=r"not loaded to train:\n  - Optimizer: missing; add the section"):
        engine.train()


def test_the_process_is_tuned_where_it_is_asked(tiny_net_config, monkeypatch):
    asked = []
    monkeypatch.setattr(cpu_tuning, "tune_cpu", lambda: asked.append(True))
    with pytest.raises(ConfigError):
        ppfacerec.train({}, tune_cpu=True)
    assert asked == [True]
