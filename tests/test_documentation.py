"""The documentation is true: keys, files and commands that it names exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import ppfacerec
from ppfacerec.cli.arguments import COMMANDS
from ppfacerec.cli.main import main
from ppfacerec.config import ConfigError, load_config
from ppfacerec.data import EVAL_DATASETS
from ppfacerec.evaluation.report.hardest import HardPair
from ppfacerec.heads import HEADS
from ppfacerec.metrics import evaluate
from ppfacerec.metrics.evaluation import set_to_json
from ppfacerec.metrics.threshold_card import threshold_card
from ppfacerec.training.checkpoints.checkpoint import load_states

ROOT = Path(__file__).parents[1]
READMES = ["README.md", "README_zh.md"]


def commands(name: str) -> list[list[str]]:
    """The indented command lines of a document, continued lines joined, split as a shell splits them."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    return [
        shlex.split(line.strip())
        for line in text.splitlines()
        if re.match(r"    (sudo|pip|python3?|ppfacerec|visualdl) ", line)
    ]


@pytest.mark.slow
def test_config_page_is_the_one_that_the_schema_and_the_components_make():
    made = subprocess.run([sys.executable, "-m", "ppfacerec.config.docs"], capture_output=True, text=True, check=True)
    assert "## Global" in made.stdout
    assert (ROOT / "docs" / "config.md").read_text(encoding="utf-8") == made.stdout


def test_help_keys_prints_a_section_and_names_the_known_ones(capsys):
    assert main(["train", "--help-keys", "Optimizer"]) == 0
    printed = capsys.readouterr().out
    for words in ("`Optimizer.clip_norm` (a positive number or null; default null)", "**AdamW**", "`base_batch_size`"):
        assert words in printed
    assert printed.strip() in (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    assert main(["train", "--help-keys", "DataLoader.Trian"]) == 1
    assert "no section 'Trian'. Did you mean 'Train'? Known: Train, Eval." in capsys.readouterr().out


def test_contributings_callback_runs_as_it_stands(tiny_net_config, tmp_path, monkeypatch):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = text.split("    # my_package/callbacks.py\n")[1].split("    # config.yaml\n")[0]
    (tmp_path / "my_callbacks.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins = "Global.plugins=[tiny_plugin, my_callbacks]"
    target = [plugins, "Global.callbacks=[StopAtLoss: {loss: 1e9}]", "Global.eval_during_train=False"]
    assert ppfacerec.train(tiny_net_config(), target) == {}
    assert load_states(tmp_path / "output" / "latest")[1]["progress"]["global_step"] == 1  # stopped, and saved
    with pytest.raises(ConfigError, match=r"Global\.callbacks\.0\.StopAtLoss\.los: StopAtLoss has no argument 'los'"):
        ppfacerec.train(tiny_net_config(), [plugins, "Global.callbacks=[StopAtLoss: {los: 1}]"])


def test_contributings_margin_runs_as_it_stands(tiny_net_config, tmp_path, monkeypatch):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = text.split("    # my_package/heads.py\n")[1].split("    # config.yaml")[0]
    (tmp_path / "my_heads.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(HEADS, "_table", dict(HEADS._table))
    head = {"name": "MyMargin", "embedding_size": 16, "class_num": 5, "gap": 0.2}
    chosen = ["Global.plugins=[tiny_plugin, my_heads]", "Global.eval_during_train=False"]
    assert ppfacerec.train(tiny_net_config(**{"Arch.Head": head}), chosen) == {}
    with pytest.raises(ConfigError, match=r"Arch\.Head\.gap: expected a number of at least 0\."):
        ppfacerec.train(tiny_net_config(**{"Arch.Head": head}), [*chosen, "Arch.Head.gap=-1"])


def test_evaluation_page_names_every_key_of_eval_json_and_every_set():
    page = (ROOT / "docs" / "evaluation.md").read_text()
    result = evaluate(np.ones((20, 2)), [True] * 10)
    card = threshold_card(result).to_json()
    pair = HardPair(0, 1.0, True, ("a", "b"), None).to_json()
    for key in [*set_to_json(result), *card["rows"][0], *card["bootstrap"], *pair]:
        assert f"`{key}`" in page, key
    for key in ("threshold_card.rows", "false_accepts", "hardest_false_rejects", "average_accuracy"):
        assert f"`{key}`" in page, key
    for name in EVAL_DATASETS.names():
        arguments = EVAL_DATASETS.signature(name).parameters
        assert name in page
        assert all(f"`{argument}" in page for argument in arguments), name


@pytest.mark.parametrize(
    "name", [*READMES, "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_linked_files_exist(name):
    path = ROOT / name
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("name", READMES)
def test_commands_name_tools_and_configs_that_exist(name):
    found = commands(name)
    assert len(found) >= 8
    for words in found:
        for word in words:
            if word.startswith(("tools/", "configs/", "benchmarks/")):
                assert (ROOT / word).exists(), word
        if words[0] == "ppfacerec":
            assert words[1] in COMMANDS


@pytest.mark.parametrize("name", READMES)
def test_overrides_in_commands_are_valid(name, tiny_config, tmp_path):
    """Every KEY=VALUE is accepted by a config, but for the weights and data of the example."""
    example = ("pretrained_model", "checkpoints", "val_data_path", "val_targets")
    for words in commands(name):
        overrides = [w for w in words if re.match(r"[A-Z]\w*\.[\w.]+=", w) and not any(e in w for e in example)]
        load_config(tiny_config(), overrides)


def test_both_readmes_have_the_same_commands():
    english, chinese = (commands(name) for name in READMES)
    assert english == chinese


@pytest.mark.parametrize("name", READMES)
def test_the_first_section_has_the_three_lines_that_ci_fresh_runs(name):
    section = (ROOT / name).read_text(encoding="utf-8").split("\n## ")[1]
    lines = [line.strip() for line in section.splitlines() if re.match(r"    (sudo|python3)", line)]
    assert [line.split(" ")[0] for line in lines] == ["sudo", "python3", "python3"]
    assert lines[1].endswith("configs/quickstart.yaml")
    assert lines[2].endswith("&& pytest")
