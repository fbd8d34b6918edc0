"""Laws of the config, and what a user is told for each mistake."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ppfacerec.backbones import BACKBONES
from ppfacerec.config import ConfigError, config_beside, load_config, save_config


def problems_of(path: Path, *overrides: str, mode: str = "train") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides, mode)
    assert str(caught.value).startswith(f"{len(caught.value.problems)} problem")
    return caught.value.problems


def test_saved_config_reads_back_the_same(tiny_config, tmp_path):
    config, _ = load_config(tiny_config(), ["Optimizer.clip_norm=5", "EMA.decay=0.9"])
    save_config(config, tmp_path / "again.yaml")
    assert load_config(tmp_path / "again.yaml")[0] == config


def test_config_is_frozen_to_the_bottom(tiny_config):
    config, _ = load_config(tiny_config())
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.Global.epochs = 1
    with pytest.raises(TypeError):
        config.Arch.Head.kwargs["class_num"] = 1
    assert isinstance(config.DataLoader.Eval.dataset.kwargs["val_targets"], tuple)


def test_override_equals_the_same_value_in_the_file(tiny_config):
    overridden, _ = load_config(tiny_config(), ["Global.epochs=7", "Loss.Train.0.CELoss.weight=2.0"])
    written, _ = load_config(tiny_config(**{"Global.epochs": 7, "Loss.Train": [{"CELoss": {"weight": 2.0}}]}))
    assert overridden == written


def test_override_of_an_aliased_section_changes_one_place(tiny_config):
    path = tiny_config()
    anchored = path.read_text().replace("sampler:\n      name", "sampler: &same\n      name", 1)
    head, _, _ = anchored.rpartition("    sampler:\n")
    path.write_text(f"{head}    sampler: *same\nMetric: {{Eval: [FaceAccOnFiveDatasets: {{}}]}}\n")
    config, _ = load_config(path, ["DataLoader.Eval.sampler.batch_size=2"])
    assert config.DataLoader.Eval.sampler.kwargs["batch_size"] == 2
    assert config.DataLoader.Train.sampler.kwargs["batch_size"] == 4


def test_override_value_may_hold_an_equals_sign(tiny_config):
    config, _ = load_config(tiny_config(), ["Global.output_dir=out=1"])
    assert config.Global.output_dir == "out=1"


@pytest.mark.parametrize(("text", "value"), [("4e-3", 0.004), ("1E2", 100.0), ("1", 1), ("0.5", 0.5)])
def test_numbers_are_numbers(tiny_config, text, value):
    config, _ = load_config(tiny_config(), [f"Optimizer.lr.learning_rate={text}"])
    assert config.Optimizer.lr.kwargs["learning_rate"] == value


def test_quotient_is_a_number(tiny_config):
    config, _ = load_config(tiny_config(), ["DataLoader.Eval.dataset.transform_ops.1.NormalizeImage.scale=1.0/255.0"])
    assert config.DataLoader.Eval.transform_ops[1].kwargs["scale"] == 1.0 / 255.0


# Ten wrong configs and more, each with the whole message.
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["Globl.epochs=1"],
            "Globl: unknown key. Did you mean 'Global'? Known here: Global, Arch, Optimizer, Loss, DataLoader, Metric, "
            "AMP, EMA.",
        ),
        (
            ["AMP.scale_los=2"],
            "AMP.scale_los: unknown key. Did you mean 'scale_loss'? Known here: scale_loss, use_dynamic_loss_scaling, "
            "level, dtype.",
        ),
        (
            ["Arch.Backbone.name=MobileFacenet2"],
            "Arch.Backbone: unknown backbone 'MobileFacenet2'. Did you mean 'MobileFaceNet'? Known: {backbones}.",
        ),
        (
            ["Arch.Head.margn=0.5"],
            "Arch.Head.margn: ArcMargin has no argument 'margn'. Did you mean 'margin'? It takes: embedding_size, "
            "class_num, margin, scale, easy_margin, straight_through.",
        ),
        (
            ["Arch.Head.embedding_size=256"],
            "Arch.Head.embedding_size: 256, but Arch.Backbone.num_features of MobileFaceNet is 128; make them equal.",
        ),
        (["Arch.Head.class_num=many"], "Arch.Head.class_num: expected an integer, found 'many' (str)."),
        (["Loss.Train=[CELos]"], "Loss.Train.0.CELos: unknown loss 'CELos'. Did you mean 'CELoss'? Known: CELoss."),
        (
            ["Optimizer.lr.warmup_epochs=1"],
            "Optimizer.lr.warmup_epochs: Cosine has no argument 'warmup_epochs'. Did you mean 'warmup_epoch'? It takes: "
            "learning_rate, eta_min, warmup_epoch, warmup_start_lr, base_batch_size.",
        ),
        (
            ["Optimizer.lr.warmup_epoch=2"],
            "Optimizer.lr.warmup_epoch: 2, but Global.epochs is 2; the warm-up must be shorter than the training.",
        ),
        (
            ["Optimizer.lr.learning_rate=-1"],
            "Optimizer.lr.learning_rate: expected a positive number, found -1.",
        ),
        (
            ["Optimizer.name=Adamw"],
            "Optimizer: unknown optimizer 'Adamw'. Did you mean 'AdamW'? Known: Adam, AdamW, Momentum, SGD.",
        ),
        (["Optimizer.clip_norm=0"], "Optimizer.clip_norm: expected a positive number or null, found 0."),
        (
            ["DataLoader.Train.sampler.batchsize=8"],
            "DataLoader.Train.sampler.batchsize: DistributedBatchSampler has no argument 'batchsize'. Did you mean "
            "'batch_size'? It takes: batch_size, drop_last, shuffle.",
        ),
        (
            ["DataLoader.Train.dataset.transform_ops.1=RandomFlip"],
            "DataLoader.Train.dataset.transform_ops.1.RandomFlip: unknown transform 'RandomFlip'. Did you mean "
            "'RandFlipImage'? Known: DecodeImage, NormalizeImage, RandFlipImage, ResizeImage, ToCHWImage.",
        ),
        (["Metric.Evl=[]"], "Metric.Evl: unknown key. Did you mean 'Eval'? Known here: Eval."),
        (["Global.epochs=many"], "Global.epochs: expected an integer, found 'many' (str)."),
        (["Global.epochs=True"], "Global.epochs: expected an integer, found True (bool)."),
        (["Global.flip_test=1"], "Global.flip_test: expected true or false, found 1 (int)."),
        (["Global.epochs=0"], "Global.epochs: expected an integer of at least 1, found 0."),
        (["Global.device=tpu"], "Global.device: expected one of 'auto', 'cpu', 'gpu', found 'tpu' (str)."),
        (
            ["Global.image_shape=[3, 224, 224]"],
            "Global.image_shape: the backbones take [3, 112, 112], found [3, 224, 224].",
        ),
        (["Global.re_ranking=True"], "Global.re_ranking: expected False (re-ranking is for retrieval, not for "
                                     "verification), found True (bool)."),
        (["Global.pretrained_model=no/such"], "Global.pretrained_model: no/such.pdparams does not exist."),
        (["EMA.decay=2"], "EMA.decay: expected a number between 0 and 1, found 2."),
        (["Global.epochs"], "-o Global.epochs: expected KEY=VALUE, for example -o Global.epochs=5."),
        (["Loss.Train.3.CELoss={}"], "-o Loss.Train.3.CELoss={}: Loss.Train.3: expected a list index from 0 to 0, "
                                     "found '3'."),
        (["Global.epochs.x=1"], "-o Global.epochs.x=1: Global.epochs is the plain value 2; it has no 'x'."),
        (["Global.epochs=[1"], "-o Global.epochs=[1: not valid YAML: line 1, column 3: expected ',' or ']', but got "
                               "'<stream end>'."),
        (
            ["DataLoader.Eval.dataset.transform_ops.1.NormalizeImage.std=[0, 1, 1]"],
            "DataLoader.Eval.dataset.transform_ops.1.NormalizeImage.mean, std: expected three means and three positive "
            "stds, found (0.5, 0.5, 0.5) and (0, 1, 1).",
        ),
        (["Global.plugins=[no_such_plugin]"], "Global.plugins: cannot import 'no_such_plugin' (No module named "
                                              "'no_such_plugin'); is it installed or on PYTHONPATH?"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place_and_the_way_out(tiny_config, overrides, message):
    message = message.replace("{backbones}", ", ".join(BACKBONES.names()))  # other tests may have registered some
    assert problems_of(tiny_config(), *overrides) == [message]


def test_all_problems_come_at_once(tiny_config):
    path = tiny_config(**{"Global.epoch": 3, "Arch.Head.scale": "big"})
    path.write_text(path.read_text() + "EMA: {decay: 0.9, decay: 0.99}\n")
    found = problems_of(path, "Optimizer.lr.warmup_epochs=1", "DataLoader.Train.sampler.batch_size=0", "Loss.Train=3")
    assert [p.split(":")[0] for p in found] == [
        f"line {path.read_text().count(chr(10))}",
        "Global.epoch",
        "Loss.Train",
        "Arch.Head.scale",
        "Optimizer.lr.warmup_epochs",
    ]


def test_missing_files_are_named_with_what_is_there(tiny_config, tiny_data):
    found = problems_of(
        tiny_config(),
        "DataLoader.Train.dataset.image_root=no/images",
        "DataLoader.Train.dataset.cls_label_path=no/label.txt",
        "DataLoader.Eval.dataset.val_targets=[lfw, cfp_ff]",
    )
    cwd = Path.cwd()
    assert found == [
        f"DataLoader.Train.dataset.image_root: the folder no/images does not exist (relative paths start at {cwd}).",
        f"DataLoader.Train.dataset.cls_label_path: the file no/label.txt does not exist (relative paths start at {cwd}).",
        f"DataLoader.Eval.dataset.val_targets: {tiny_data}/cfp_ff.bin does not exist. Did you mean 'cfp_fp'? "
        "In that folder: cfp_fp, lfw.",
    ]


def test_a_missing_section_is_named(tiny_config):
    found = problems_of(tiny_config(Arch=None, Optimizer=None, Metric=None))
    assert found == [
        "Arch: missing; expected the section with Backbone and Head.",
        "Optimizer: missing; add the section.",
        "Metric: missing; add the section or set Global.eval_during_train: False.",
    ]


def test_a_missing_argument_is_named(tiny_config):
    assert problems_of(tiny_config(**{"Arch.Head.class_num": None})) == [
        "Arch.Head.class_num: missing; ArcMargin needs it."
    ]


def test_evaluation_does_not_ask_for_the_training_data(tiny_config):
    changes = {"DataLoader.Train.dataset.image_root": "no/images", "Loss": None}
    assert load_config(tiny_config(**changes), mode="eval")[0].Loss is None


def test_a_missing_or_wrong_file_is_named(tmp_path):
    (tmp_path / "config.yaml").write_text("- 1\n")
    assert problems_of(tmp_path / "confg.yaml") == ["the file does not exist. Did you mean 'config.yaml'?"]
    assert problems_of(tmp_path / "config.yaml") == ["expected sections (Global, Arch, ...), found list."]
    (tmp_path / "config.yaml").write_text("a: [1\nb: 2")
    assert problems_of(tmp_path / "config.yaml")[0].startswith("not valid YAML: line 2, column 2")


def test_config_beside_the_weights_is_found(tmp_path):
    (tmp_path / "config.yaml").write_text("")
    assert config_beside([f"Global.pretrained_model={tmp_path}/best_model"]) == tmp_path / "config.yaml"
    with pytest.raises(ConfigError, match=r"give a config with -c, or weights with -o Global\.pretrained_model"):
        config_beside([])
    with pytest.raises(ConfigError, match=r"there is no config\.yaml beside no/best_model"):
        config_beside(["Global.pretrained_model=no/best_model"])


def test_plugin_registers_a_component_that_the_yaml_then_names(tiny_config, tmp_path, monkeypatch):
    (tmp_path / "my_plugin_heads.py").write_text(
        "from ppfacerec.heads import HEADS, ArcMargin\n@HEADS.register\nclass MyMargin(ArcMargin):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    config, _ = load_config(tiny_config(), ["Global.plugins=[my_plugin_heads]", "Arch.Head.name=MyMargin"])
    assert config.Arch.Head.name == "MyMargin"
