"""Laws of PaddleClas's configs: its words are carried out, accepted with a reason, or refused with a replacement."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ppfacerec.config import ConfigError, load_config, weights_file
from ppfacerec.weights.read import read_any

OVERRIDES = [  # neutral here
    "Global.print_mem_info=True", "Global.log_ranks='0'", "Global.start_eval_epoch=0", "Global.iter_per_epoch=None",
    "Global.train_mode=None", "Global.class_num=6", "Global.uniform_output_enabled=False", "Global.distributed=False",
    "Global.use_multilabel=False", "Global.feature_binarize=None", "Global.use_distillation=False",
    "Global.warmup_iter=0", "AMP.use_amp=False", "AMP.use_promote=False", "AMP.use_fp16_test=False",
    "Arch.use_sync_bn=False", "Arch.Backbone.pretrained=False", "Optimizer.multi_precision=True",
    "Optimizer.lr.by_epoch=False", "Optimizer.lr.last_epoch=-1", "Optimizer.lr.verbose=False",
]  # fmt: skip


def problems_of(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return caught.value.problems


def test_paddleclas_words_are_accepted_at_neutral_values(tiny_config):
    classes = load_config(tiny_config())[0].Arch.Head.kwargs["class_num"]
    overrides = [f"Global.class_num={classes}" if "class_num" in o else o for o in OVERRIDES]
    config, notes = load_config(tiny_config(), overrides)
    assert config == load_config(tiny_config())[0]
    assert "Global.print_mem_info (`ppfacerec plan` estimates memory)" in notes


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("Arch.Backbone.pretrained=True", "Arch.Backbone.pretrained: expected False (use Global.pretrained_model for weights "
         "to start from), found True (bool)."),
        ("Optimizer.lr.by_epoch=True", "Optimizer.lr.by_epoch: expected False (the learning rate is computed for every step), "
         "found True (bool)."),
        ("Optimizer.regularizer={name: L1, coeff: 1e-4}", "Optimizer.regularizer: only {name: L2, coeff: ...} is supported, "
         "found {'name': 'L1', 'coeff': 0.0001}."),
        ("Global.class_num=5000", "Global.class_num: 5000, but Arch.Head.class_num sets the number of identities."),
        ("Global.epochs=2*3", "-o Global.epochs=2*3: arithmetic such as 2*3 is not evaluated; write the number."),
        ("Global.eval_mode=retrieval", "this is a retrieval config of PaddleClas. ppfacerec only trains and evaluates face "
         "verification: use one of `ppfacerec configs`, or PaddleClas itself for other tasks."),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused_with_the_replacement(tiny_config, override, message):
    assert problems_of(tiny_config(), override) == [message]


def test_python_values_of_overrides_are_read_as_paddleclas_does(tiny_config):
    ops = "DataLoader.Eval.dataset.transform_ops"
    config, _ = load_config(
        tiny_config(),
        ["Global.output_dir=None", "Global.image_shape=(3, 112, 112,)", "DataLoader.Eval.dataset.val_targets=lfw",
         f"{ops}.1.NormalizeImage.scale='1.0/255.0'", "Optimizer.regularizer={name: L2, coeff: 5e-4}"],
    )  # fmt: skip
    assert config.Global.output_dir == "./output"
    assert config.Global.image_shape == (3, 112, 112)
    assert config.DataLoader.Eval.dataset.kwargs["val_targets"] == ("lfw",)
    assert config.DataLoader.Eval.transform_ops[1].kwargs["scale"] == 1 / 255
    assert config.Optimizer.spec.kwargs["weight_decay"] == 5e-4


def adaface_tree(root: Path) -> dict:
    """The keys and values of PaddleClas's metric_learning/adaface_ir18.yaml, with folders of `root`."""
    loader = {"num_workers": 6, "use_shared_memory": True}
    size = {"batch_size": 256, "drop_last": False, "shuffle": True}
    norm = {"Normalize": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}
    crop = {"prob": 0.2, "padding_num": 0, "size": [112, 112], "scale": [0.2, 1.0], "ratio": [0.75, 4 / 3]}
    jitter = {"prob": 0.2, "brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0}
    ops = [{"CropWithPadding": crop}, {"RandomInterpolationAugment": {"prob": 0.2}}, {"ColorJitter": jitter},
           {"RandomHorizontalFlip": None}, {"ToTensor": None}, norm]  # fmt: skip
    train = {"name": "AdaFaceDataset", "root_dir": str(root), "label_path": f"{root}/label.txt", "transform": ops}
    evaluation = {"name": "FiveValidationDataset", "val_data_path": str(root), "concat_mem_file_name": "memfile"}
    margin = {"m": 0.4, "s": 64, "h": 0.333, "t_alpha": 0.01}
    return {
        "Global": {"checkpoints": None, "pretrained_model": None, "output_dir": "./output/", "device": "gpu",
                   "save_interval": 1, "eval_during_train": True, "eval_interval": 1, "epochs": 26,
                   "print_batch_step": 10, "use_visualdl": False, "image_shape": [3, 112, 112],
                   "save_inference_dir": "./inference", "eval_mode": "adaface"},
        "Arch": {"name": "RecModel", "infer_output_key": "features", "infer_add_softmax": False,
                 "Backbone": {"name": "AdaFace_IR_18", "input_size": [112, 112]},
                 "Head": {"name": "AdaMargin", "embedding_size": 512, "class_num": 70722, **margin}},
        "Loss": {"Train": [{"CELoss": {"weight": 1.0}}]},
        "Optimizer": {"name": "Momentum", "momentum": 0.9, "regularizer": {"name": "L2", "coeff": 0.0005},
                      "lr": {"name": "Piecewise", "learning_rate": 0.1, "decay_epochs": [12, 20, 24],
                             "values": [0.1, 0.01, 0.001, 0.0001]}},
        "DataLoader": {
            "Train": {"dataset": train, "sampler": {"name": "DistributedBatchSampler", **size}, "loader": loader},
            "Eval": {"dataset": evaluation, "sampler": {"name": "BatchSampler", **size}, "loader": loader},
        },
        "Metric": {"Train": [{"TopkAcc": {"topk": [1, 5]}}]},
    }  # fmt: skip


def test_adaface_config_runs_unchanged(tmp_path):
    (tmp_path / "label.txt").write_text("a.jpg 0\n")
    for name in ("lfw", "cfp_fp", "agedb_30", "calfw", "cplfw"):
        (tmp_path / f"{name}.bin").touch()
    (tmp_path / "adaface.yaml").write_text(yaml.safe_dump(adaface_tree(tmp_path)))
    config, _ = load_config(tmp_path / "adaface.yaml")
    assert config.Arch.Backbone.name == "IR18"
    assert dict(config.Arch.Head.kwargs)["margin"] == 0.4
    names = [spec.name for spec in config.DataLoader.Train.transform_ops]
    assert names == [
        "DecodeImage",
        "RandCropPad",
        "RandLowResolution",
        "RandPhotometric",
        "RandFlipImage",
        "NormalizeImage",
    ]
    assert [spec.name for spec in config.Metric.Eval] == ["FaceAccOnFiveDatasets"]


def test_no_code_of_a_config_that_nobody_named_or_that_has_problems(tiny_config, tmp_path, monkeypatch):
    (tmp_path / "runs_code.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tiny_config(**{"Global.plugins": ["runs_code"]})
    with pytest.raises(
        ConfigError, match="Global.plugins: runs_code would be imported; give the config with -c to allow it"
    ):
        load_config(path, is_named=False)
    with pytest.raises(SystemExit, match="imported"):  # named by the user
        load_config(path, ["Global.plugins=[runs_code]"], is_named=False)
    path = tiny_config(**{"Global.plugins": ["no_such_plugin"], "Arch.Head.name": "Theirs"})
    assert len(problems_of(path)) == 1  # not also "unknown head 'Theirs'"
    assert problems_of(path, "Global.epohs=1")[-1] == "Global.plugins: not imported until the other problems are fixed."


def test_a_file_of_weights_wins_over_paddleclas_folder_of_the_same_name(tmp_path):
    (
        tmp_path / "best_model"
    ).mkdir()  # PaddleClas's save_model leaves best_model.pdparams and best_model/model.pdparams
    assert weights_file(f"{tmp_path}/best_model") == f"{tmp_path}/best_model"
    (tmp_path / "best_model.pdparams").touch()
    for name in ("best_model", "best_model/"):  # a shell completes the folder's name
        assert weights_file(f"{tmp_path}/{name}") == f"{tmp_path}/best_model.pdparams"
    (tmp_path / "best_model" / "model.pdparams").touch()
    with pytest.raises(ValueError, match=r"give a weights file, such as .*/best_model/model\.pdparams\."):
        read_any(tmp_path / "best_model")
