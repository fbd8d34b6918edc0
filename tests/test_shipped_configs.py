"""The configs that ship, and PaddleClas's own two, are valid as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ppfacerec.config import ConfigError, load_config
from ppfacerec.data.pairs.pair_bin import write_bin

ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "configs").rglob("*.yaml"))
NAMES = ["MobileFaceNet", "ResNet50"]


def make_datasets(root: Path) -> None:
    for folder in (root / "dataset" / name for name in ("MS1M_v3", "Glint360K", "WebFace42M")):
        folder.mkdir(parents=True)
        (folder / "label.txt").write_text("images/00000001.jpg\t0\n")
        for name in ("agedb_30", "cfp_fp", "lfw"):
            write_bin(folder / f"{name}.bin", [b"left", b"right"], [True])


def paddleclas_tree(name: str) -> dict:
    """The keys and values of PaddleClas release/2.6's two face configs, `scale` and `delimiter` as written there."""
    shape = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "order": "hwc", "scale": "QUOTIENT"}
    decode = {"DecodeImage": {"to_rgb": True, "channel_first": False, "backend": "cv2"}}
    resize = {"size": [112, 112], "return_numpy": False, "interpolation": "bilinear", "backend": "cv2"}
    ops = [decode, {"RandFlipImage": {"flip_code": 1}}, {"ResizeImage": resize}, {"NormalizeImage": shape}]
    size = 128 if name == "MobileFaceNet" else 512
    resnet = {"max_pool": False, "stride_list": [1, 2, 2, 2, 2], "class_num": 512}

    def loader(dataset: dict, batch_size: int, shuffle: bool, workers: int) -> dict:
        sampler = {"name": "DistributedBatchSampler", "batch_size": batch_size, "drop_last": False, "shuffle": shuffle}
        return {
            "dataset": dataset,
            "sampler": sampler,
            "loader": {"num_workers": workers, "use_shared_memory": True},
        }

    train = {
        "name": "ImageNetDataset",
        "image_root": "./dataset/MS1M_v3/",
        "cls_label_path": "./dataset/MS1M_v3/label.txt",
        "delimiter": "\t",
        "transform_ops": ops,
    }
    evaluation = {
        "name": "FiveFaceEvalDataset",
        "val_data_path": "./dataset/MS1M_v3/",
        "transform_ops": [decode, ops[2], ops[3]],
    }
    return {
        "Global": {
            "checkpoints": None, "pretrained_model": None, "output_dir": "./output/", "device": "gpu",
            "save_interval": 1, "eval_during_train": True, "eval_interval": 1, "epochs": 25, "print_batch_step": 20,
            "use_visualdl": False, "eval_mode": "face_recognition", "retrieval_feature_from": "backbone",
            "flip_test": True, "feature_normalize": False, "re_ranking": False, "use_dali": False,
            "image_shape": [3, 112, 112], "save_inference_dir": "./inference",
        },
        "AMP": {"scale_loss": 27648, "use_dynamic_loss_scaling": True, "level": "O1"},
        "Arch": {
            "name": "RecModel", "infer_output_key": "features", "infer_add_softmax": False,
            "Backbone": {"name": name, **(resnet if name == "ResNet50" else {})},
            "Head": {"name": "ArcMargin", "embedding_size": size, "class_num": 93431, "margin": 0.5, "scale": 64},
        },
        "Loss": {"Train": [{"CELoss": {"weight": 1.0}}]},
        "Optimizer": {
            "name": "AdamW", "beta1": 0.9, "beta2": 0.999, "epsilon": "EPSILON", "weight_decay": 0.05,
            "one_dim_param_no_weight_decay": True,
            "lr": {"name": "Cosine", "learning_rate": "RATE", "eta_min": "MINIMUM", "warmup_epoch": 1,
                   "warmup_start_lr": 0},
        },
        "DataLoader": {"Train": loader(train, 128, True, 8), "Eval": loader(evaluation, 64, False, 4)},
        "Metric": {
            "Eval": [{"FaceAccOnFiveDatasets" if name == "MobileFaceNet" else "BestAccOnFiveDatasets": {}}]
        },
    }  # fmt: skip


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.name)
def test_shipped_config_is_valid_where_its_data_is(path, tmp_path, monkeypatch):
    make_datasets(tmp_path)
    monkeypatch.chdir(tmp_path)
    load_config(path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.name)
def test_shipped_config_says_paper_command_and_score(path):
    header = path.read_text().split("\n\n")[0]
    for word in ("# Paper", "# Data", "# Command", "# Expected"):
        assert word in header


@pytest.mark.parametrize("name", NAMES)
def test_paddleclas_config_runs_unchanged(name, tmp_path, monkeypatch):
    make_datasets(tmp_path)
    monkeypatch.chdir(tmp_path)
    text = yaml.safe_dump(paddleclas_tree(name))
    for word, written in (("QUOTIENT", "1.0/255.0"), ("EPSILON", "1e-8"), ("RATE", "4e-3"), ("MINIMUM", "1e-6")):
        text = text.replace(word, written)
    (tmp_path / "clas.yaml").write_text(text)
    config, notes = load_config(tmp_path / "clas.yaml")
    assert config.Optimizer.lr.kwargs["learning_rate"] == 0.004
    assert config.Optimizer.spec.kwargs["epsilon"] == 1e-8
    assert config.DataLoader.Train.transform_ops[3].kwargs["scale"] == 1.0 / 255.0
    assert sorted(note.split(" ")[0] for note in notes) == [
        "Arch.infer_add_softmax", "Arch.infer_output_key", "DataLoader.Eval.loader.use_shared_memory",
        "DataLoader.Train.loader.use_shared_memory", "Global.eval_mode", "Global.re_ranking",
        "Global.retrieval_feature_from", "Global.use_dali",
    ]  # fmt: skip


def test_shipped_configs_name_the_data_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = ROOT / "configs/Face_Recognition/FaceRecognition_ArcFace_MobileFaceNet.yaml"
    with pytest.raises(ConfigError, match=r"the folder \./dataset/MS1M_v3 does not exist"):
        load_config(path)
