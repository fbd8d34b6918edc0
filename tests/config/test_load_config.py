"""Laws of the config, and what a user is told for each mistake."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import pytest

from ppfacerec.backbones import BACKBONES
from ppfacerec.config import ConfigError, config_beside, load_config, save_config
from ppfacerec.core.registry import Spec


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
            "Globl: unknown key. Did you mean 'Global'? Known keys: Global, Arch, Optimizer, Loss, DataLoader, Metric, "
            "AMP, EMA.",
        ),
        (
            ["Global.max_bad_steps=0"],
            "Global.max_bad_steps: expected an integer of at least 1 or null, found 0.",
        ),
        (
            ["Global.watchdog_minutes=0"],
            "Global.watchdog_minutes: expected a positive number or null, found 0.",
        ),
        (
            ["Global.watchdog_minutes=.inf"],
            "Global.watchdog_minutes: expected a positive number or null, found inf.",
        ),
        (
            ["Global.watchdog_minutes=soon"],
            "Global.watchdog_minutes: expected a number or null, found 'soon' (str).",
        ),
        (
            ["AMP.scale_los=2"],
            "AMP.scale_los: unknown key. Did you mean 'scale_loss'? Known keys: scale_loss, use_dynamic_loss_scaling, "
            "level, dtype.",
        ),
        (
            ["Arch.Backbone.name=MobileFacenet2"],
            "Arch.Backbone: unknown backbone 'MobileFacenet2'. Did you mean 'MobileFaceNet'? Known: {backbones}.",
        ),
        (
            ["Arch.Head.margn=0.5"],
            "Arch.Head.margn: ArcMargin has no argument 'margn'. Did you mean 'margin'? It takes: embedding_size, "
            "class_num, margin, scale, easy_margin, straight_through, class_parallel, sample_rate, sparse_update, "
            "chunk_size, num_sub_centers, interclass_filtering_threshold.",
        ),
        (
            ["Arch.Head.embedding_size=256"],
            "Arch.Head.embedding_size: 256, but Arch.Backbone.embedding_size of MobileFaceNet is 128; make them equal.",
        ),
        (["Arch.Head.sample_rate=1.5"], "Arch.Head.sample_rate: expected a number above 0 and up to 1, found 1.5."),
        (["Arch.Head.chunk_size=0"], "Arch.Head.chunk_size: expected an integer of at least 1, found 0."),
        (
            ["Arch.Head.sparse_update=True"],
            "Arch.Head.sparse_update: needs a sample_rate below 1; with 1.0 every class is updated.",
        ),
        (
            ["Arch.Head.interclass_filtering_threshold=64"],
            "Arch.Head.interclass_filtering_threshold: expected a cosine from -1 to 1, found 64.",
        ),
        (["Arch.Head.class_num=many"], "Arch.Head.class_num: expected an integer, found 'many' (str)."),
        (["Loss.Train=[CELos]"], "Loss.Train.0.CELos: unknown loss 'CELos'. Did you mean 'CELoss'? Known: CELoss."),
        (
            ["Optimizer.lr.warmup_epochs=1"],
            "Optimizer.lr.warmup_epochs: Cosine has no argument 'warmup_epochs'. Did you mean 'warmup_epoch'? It takes: "
            "learning_rate, warmup_epoch, warmup_start_lr, eta_min, base_batch_size.",
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
            "'RandFlipImage'? Known: CropImage, DecodeImage, NormalizeImage, RandBlur, RandCropImage, RandCropPad, "
            "RandFlipImage, RandGrey, RandJPEG, RandLowResolution, RandPhotometric, RandomErasing, ResizeImage, ToCHWImage.",
        ),
        (["Metric.Evl=[]"], "Metric.Evl: unknown key. Did you mean 'Eval'? Known keys: Eval."),
        (["Global.epochs=many"], "Global.epochs: expected an integer, found 'many' (str)."),
        (["Global.epochs=True"], "Global.epochs: expected an integer, found True (bool)."),
        (["Global.flip_test=1"], "Global.flip_test: expected true or false, found 1 (int)."),
        (["Global.epochs=0"], "Global.epochs: expected an integer of at least 1, found 0."),
        (["Global.save_interval_steps=-1"], "Global.save_interval_steps: expected 0 (off) or more, found -1."),
        (["Global.save_interval_steps=2.5"], "Global.save_interval_steps: expected an integer, found 2.5 (float)."),
        (["Global.save_interval_minutes=-0.5"], "Global.save_interval_minutes: expected 0 (off) or more, found -0.5."),
        (["Global.save_interval_minutes=.inf"], "Global.save_interval_minutes: expected 0 (off) or more, found inf."),
        (["Global.save_interval_minutes=.nan"], "Global.save_interval_minutes: expected 0 (off) or more, found nan."),
        (["Global.keep_last=-2"], "Global.keep_last: expected 0 (off) or more, found -2."),
        (["Global.keep_last=all"], "Global.keep_last: expected an integer, found 'all' (str)."),
        (["Global.save_in_background=1"], "Global.save_in_background: expected true or false, found 1 (int)."),
        (["Global.checkpoints=no/such"], "Global.checkpoints: no/such.pdparams does not exist; 'auto' resumes from the "
                                         "newest complete checkpoint in output_dir, if there is one."),
        (["Global.checkpoints=True"], "Global.checkpoints: expected a text or null, found True (bool)."),
        (["Global.device=tpu"], "Global.device: expected auto, cpu, gpu, or gpu:1 for one of several, found 'tpu'."),
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
    backbones = ", ".join(BACKBONES.names())  # other tests may have registered some
    assert problems_of(tiny_config(), *overrides) == [message.replace("{backbones}", backbones)]


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
        "DataLoader.Train.sampler.batch_size",
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


def test_all_sets_of_a_folder_are_asked_for_by_one_word(tiny_config, tmp_path):
    load_config(tiny_config(), ["DataLoader.Eval.dataset.val_targets=all"], "eval")
    path = "DataLoader.Eval.dataset"
    (tmp_path / "none").mkdir()
    assert problems_of(tiny_config(), f"{path}.val_targets=all", f"{path}.val_data_path={tmp_path}/none") == [
        f"{path}.val_targets: {tmp_path}/none has no .bin file."
    ]
    assert problems_of(tiny_config(), f"{path}.val_targets=[]") == [
        f"{path}.val_targets: no set is named; name some, or 'all'."
    ]
    config, _ = load_config(tiny_config(), [f"{path}.val_targets=lfw"])  # a lone name is a list of one
    assert config.DataLoader.Eval.dataset.kwargs["val_targets"] == ("lfw",)


def test_missing_pair_lists_are_named(tiny_config):
    path = "DataLoader.Eval.dataset"
    lists = {
        "FaceEvalDataset": ("dataset_root", "pair_label_path"),
        "LFWEvalDataset": ("image_root", "pairs_path"),
    }
    for name, (folder, file) in lists.items():
        dataset = {"name": name, folder: "no/faces", file: "no/pairs.txt"}
        transforms = [{"DecodeImage": None}, {"NormalizeImage": None}]
        found = problems_of(tiny_config(**{path: {**dataset, "transform_ops": transforms}}))
        assert [problem.split(" (")[0] for problem in found] == [
            f"{path}.{folder}: the folder no/faces does not exist",
            f"{path}.{file}: the file no/pairs.txt does not exist",
        ]


def test_random_transforms_are_refused_in_evaluation(tiny_config):
    ops = "[DecodeImage: {}, RandFlipImage: {}, NormalizeImage: {}]"
    assert problems_of(tiny_config(), f"DataLoader.Eval.dataset.transform_ops={ops}") == [
        "DataLoader.Eval.dataset.transform_ops.1.RandFlipImage: evaluation takes no random transform; "
        "Global.flip_test adds the mirror image."
    ]


def test_a_missing_section_is_named(tiny_config):
    found = problems_of(tiny_config(Arch=None, Optimizer=None, Metric=None))
    assert found == [
        "Arch: missing; expected the section with Backbone and Head.",
        "Optimizer: missing; add the section.",
        "Metric: missing; add the section or set Global.eval_during_train: False.",
    ]


def test_a_missing_argument_is_named(tiny_config):
    assert problems_of(tiny_config(**{"Arch.Head.embedding_size": None})) == [
        "Arch.Head.embedding_size: missing; ArcMargin needs it."
    ]


@pytest.mark.parametrize("spelling", ["num_features", "class_num"])  # insightface's and PaddleClas's
def test_the_other_projects_spellings_of_embedding_size_are_read(tiny_config, spelling):
    size = {"name": "MobileFaceNet", spelling: 64}
    config, _ = load_config(tiny_config(**{"Arch.Backbone": size, "Arch.Head.embedding_size": 64}))
    assert config.Arch.Backbone.kwargs == {"embedding_size": 64}
    assert BACKBONES.build(Spec("MobileFaceNet", {spelling: 32})).embedding_size == 32


def test_two_spellings_of_one_argument_are_refused(tiny_config):
    with pytest.raises(ConfigError) as error:
        load_config(tiny_config(), ["Arch.Backbone.embedding_size=128", "Arch.Backbone.class_num=64"])
    assert "Arch.Backbone.class_num: another name of embedding_size, and both are given; leave one out." in str(
        error.value
    )


def test_class_num_may_be_left_to_the_data(tiny_config):
    config, _ = load_config(tiny_config(**{"Arch.Head.class_num": None}))
    assert "class_num" not in config.Arch.Head.kwargs


def test_every_set_of_a_joined_one_is_checked(tiny_config, tmp_path):
    joined = {
        "name": "ConcatDataset",
        "datasets": [
            {"name": "FolderDatast", "root": "x"},
            {"name": "RecordIODataset", "root": str(tmp_path), "prefx": "train"},
            {"name": "ImageNetDataset", "image_root": "x", "cls_label_path": "y", "class_num": 3},
        ],
        "transform_ops": ["DecodeImage", "NormalizeImage"],
    }
    where = "DataLoader.Train.dataset.datasets"
    assert [
        p.split(" Known:")[0].split(" It takes:")[0]
        for p in problems_of(tiny_config(**{"DataLoader.Train.dataset": joined}))
    ] == [
        f"{where}.0: unknown training data set 'FolderDatast'. Did you mean 'FolderDataset'?",
        f"{where}.1.prefx: RecordIODataset has no argument 'prefx'. Did you mean 'prefix'?",
        f"{where}.2.class_num: ImageNetDataset has no argument 'class_num'.",
    ]


def test_paths_of_every_set_must_exist(tiny_config, tmp_path):
    joined = {
        "name": "ConcatDataset",
        "datasets": [
            {"name": "FolderDataset", "root": "no/folder"},
            {"name": "RecordIODataset", "root": str(tmp_path)},
        ],
        "transform_ops": ["DecodeImage", "NormalizeImage"],
    }
    first, second = problems_of(tiny_config(**{"DataLoader.Train.dataset": joined}))
    assert first.startswith("DataLoader.Train.dataset.datasets.0.root: the folder no/folder does not exist")
    assert second.startswith(f"DataLoader.Train.dataset.datasets.1.root: the file {tmp_path}/train.rec does not exist")


def test_numbers_of_the_loader_are_checked(tiny_config):
    overrides = ["DataLoader.Train.loader.prefetch_factor=0", "DataLoader.Train.loader.max_bad_images=-1",
                 "DataLoader.Train.loader.on_bad_image=replace", "DataLoader.Eval.loader.on_bad_image=skip"]  # fmt: skip
    assert problems_of(tiny_config(), *overrides[:2]) == [
        "DataLoader.Train.loader.prefetch_factor: expected an integer of at least 1, found 0.",
        "DataLoader.Train.loader.max_bad_images: expected a number of at least 0, found -1.",
    ]
    bad_choice, no_such_key = problems_of(tiny_config(), *overrides[2:])
    assert bad_choice == "DataLoader.Train.loader.on_bad_image: expected one of 'error', 'skip', found 'replace' (str)."
    assert no_such_key.startswith("DataLoader.Eval.loader.on_bad_image: unknown key")


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


def test_a_yaml_bomb_is_refused(tmp_path):
    laughs = "a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
    laughs += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    (tmp_path / "bomb.yaml").write_text(laughs)
    assert problems_of(tmp_path / "bomb.yaml") == [
        "its aliases expand to more than 100,000 values; no config needs that many."
    ]


def doubled(line: str) -> str:
    """Twelve lines, each of which holds the one before nine times."""
    return "a0: &a0 {k: 1}\n" + "".join(
        f"a{i}: &a{i} {line.format(', '.join([f'*a{i - 1}'] * 9))}\n" for i in range(1, 12)
    )


TOO_MUCH = {
    "cycle": ("a: &a [*a]", "nested too deeply, or an alias contains itself."),
    "brackets": ("a: " + "[" * 5000 + "]" * 5000, "brackets are nested more than 500 deep."),
    "merged": (
        doubled("{{<<: [{}]}}"),
        "not valid YAML: line 2, column 10: the merge key '<<' is not supported; write the keys out.",
    ),
    "tuples": (
        doubled("!!omap [{{k: [{}]}}]"),
        "its aliases expand to more than 100,000 values; no config needs that many.",
    ),
    "long": ("a: 1\n" + "# " * 200_000, "400,005 characters of YAML; no config needs more than 262,144."),
    "digits": (
        "a: " + "9" * 5000,
        "a value cannot be read: Exceeds the limit",
    ),
    "month": ("a: 2001-13-01", "a value cannot be read: month must be in 1..12"),
    "control": ("a: \x1b[2J", "not valid YAML: unacceptable character #x001b: special characters are not allowed"),
    "map": ("a: !!map [1]", "not valid YAML: line 1, column 4: expected a mapping node, but found sequence."),
    "object": (
        "a: !!python/object/apply:os.system [touch hacked]",
        "not valid YAML: line 1, column 4: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object/apply:os.system'.",
    ),
}


@pytest.mark.parametrize("case", TOO_MUCH)
def test_yaml_that_asks_for_too_much_is_refused_at_once(tmp_path, case):
    text, message = TOO_MUCH[case]
    (tmp_path / "config.yaml").write_text(text)
    start = time.process_time()
    (found,) = problems_of(tmp_path / "config.yaml")
    assert found.startswith(message)
    assert time.process_time() - start < 5


def test_missing_parts_are_told_beside_everything_else(tiny_config):
    """A section whose needed part is missing must not end the check."""
    found = problems_of(tiny_config(**{"DataLoader.Train.dataset": None, "Metric": {"Evl": []}, "Global.epohs": 1}))
    assert any(problem.startswith("DataLoader.Train.dataset: missing; expected") for problem in found)
    assert any(problem.startswith("Metric.Eval: missing; expected a list such as") for problem in found)
    assert any(problem.startswith("Global.epohs: unknown key. Did you mean 'epochs'?") for problem in found)


CHECKED_HEAD = """
from ppfacerec.heads import HEADS, MarginHead, with_head_options
from ppfacerec.heads.options import DEFAULT_OPTIONS, HeadOptions

@HEADS.register
@with_head_options
class WarmMargin(MarginHead):
    def __init__(self, embedding_size: int, class_num: int, warm: int = 1, options: HeadOptions = DEFAULT_OPTIONS):
        super().__init__(embedding_size, class_num, options=options)

    @staticmethod
    def check(arguments):
        if arguments["warm"] < 1:
            yield "warm: expected at least 1."
"""


def test_a_heads_own_check_is_asked_besides_that_of_the_options(tiny_config, tmp_path, monkeypatch):
    (tmp_path / "my_checked_heads.py").write_text(CHECKED_HEAD)
    monkeypatch.syspath_prepend(tmp_path)
    found = problems_of(
        tiny_config(**{"Arch.Head": {"name": "WarmMargin", "embedding_size": 128, "class_num": 10}}),
        "Global.plugins=[my_checked_heads]", "Arch.Head.warm=0", "Arch.Head.sample_rate=2",
    )  # fmt: skip
    assert "Arch.Head.warm: expected at least 1." in found
    assert any(problem.startswith("Arch.Head.sample_rate: ") for problem in found)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_called_so_and_not_missing(tiny_config, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (found,) = problems_of(tiny_config(), f"DataLoader.Train.dataset.cls_label_path={tmp_path}/pipe")
    assert found == f"DataLoader.Train.dataset.cls_label_path: {tmp_path}/pipe is not a regular file."
    assert any("not a regular file" in problem for problem in problems_of(tmp_path / "pipe"))
