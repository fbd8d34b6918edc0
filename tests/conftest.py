"""Small worlds for the tests: pictures, a training set, evaluation sets, and a config over them."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("GLOG_minloglevel", "2")

import cv2
import numpy as np
import paddle
import pytest
import yaml

from ppfacerec.core import log
from ppfacerec.data.pairs.pair_bin import write_bin

paddle.set_device("cpu")
# MKL chooses its kernels at the first product: here, so that no test's tune_cpu changes the last digits of others.
paddle.ones([2, 2]).matmul(paddle.ones([2, 2]))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are CPUs: tests of several processes wait for them a third of their time."""
    return int(os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") or len(os.sched_getaffinity(0)) + 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each xdist worker its share of the slow tests first, so that none of them runs alone at the end."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = [item for item in items if item.get_closest_marker("slow")]
    fast = [item for item in items if not item.get_closest_marker("slow")]
    size = -(-len(fast) // workers)
    items[:] = [one for k in range(workers) for one in (*slow[k::workers], *fast[k * size : (k + 1) * size])]


def picture(identity: int, number: int, size: int = 112) -> np.ndarray:
    """A smooth colour pattern (H, W, 3) that tells its identity, with a little noise of its own."""
    pattern = np.random.default_rng([7, identity]).uniform(0, 255, (4, 4, 3)).astype(np.float32)
    noise = np.random.default_rng([8, identity, number]).normal(0, 12, (size, size, 3))
    return np.clip(cv2.resize(pattern, (size, size), interpolation=cv2.INTER_CUBIC) + noise, 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image[:, :, ::-1])[1].tobytes()


def write_training_set(root: Path, num_identities: int, images_each: int) -> None:
    (root / "images").mkdir(parents=True)
    lines = []
    for identity in range(num_identities):
        for number in range(images_each):
            name = f"images/{identity:04d}_{number:04d}.jpg"
            (root / name).write_bytes(jpeg(picture(identity, number)))
            lines.append(f"{name}\t{identity}")
    (root / "label.txt").write_text("\n".join(lines))


def write_pairs(path: Path, num_pairs: int, first_identity: int) -> None:
    """Same and different pairs in turn, of identities that no training set has."""
    images, is_same = [], []
    for pair in range(num_pairs):
        left = first_identity + pair % 7
        same = pair % 2 == 0
        images += [jpeg(picture(left, 2 * pair)), jpeg(picture(left if same else left + 1 + pair % 3, 2 * pair + 1))]
        is_same.append(same)
    write_bin(path, images, is_same)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images/, label.txt (5 identities, 4 images each), lfw.bin and cfp_fp.bin (20 pairs each)."""
    root = tmp_path_factory.mktemp("tiny_data")
    write_training_set(root, num_identities=5, images_each=4)
    write_pairs(root / "lfw.bin", 20, first_identity=1000)
    write_pairs(root / "cfp_fp.bin", 20, first_identity=2000)
    return root


def tiny_tree(data: Path, output_dir: Path) -> dict[str, Any]:
    """A config that trains in seconds: the real MobileFaceNet on the tiny data."""
    decode = [{"DecodeImage": {"to_rgb": True}}]
    normalize = [{"NormalizeImage": {"scale": 1 / 255, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}]
    return {
        "Global": {"output_dir": str(output_dir), "device": "cpu", "epochs": 2, "print_batch_step": 1},
        "Arch": {
            "Backbone": {"name": "MobileFaceNet"},
            "Head": {"name": "ArcMargin", "embedding_size": 128, "class_num": 5, "margin": 0.2, "scale": 16},
        },
        "Loss": {"Train": [{"CELoss": {"weight": 1.0}}]},
        "Optimizer": {
            "name": "AdamW",
            "weight_decay": 0.05,
            "one_dim_param_no_weight_decay": True,
            "lr": {"name": "Cosine", "learning_rate": 0.002, "warmup_epoch": 1},
        },
        "DataLoader": {
            "Train": {
                "dataset": {
                    "name": "ImageNetDataset",
                    "image_root": str(data),
                    "cls_label_path": str(data / "label.txt"),
                    "transform_ops": [*decode, {"RandFlipImage": {"flip_code": 1}}, *normalize],
                },
                "sampler": {"name": "DistributedBatchSampler", "batch_size": 4, "drop_last": False, "shuffle": True},
                "loader": {"num_workers": 0},
            },
            "Eval": {
                "dataset": {
                    "name": "FiveFaceEvalDataset",
                    "val_data_path": str(data),
                    "val_targets": ["lfw", "cfp_fp"],
                    "transform_ops": [*decode, *normalize],
                },
                "sampler": {"name": "DistributedBatchSampler", "batch_size": 8},
            },
        },
        "Metric": {"Eval": [{"FaceAccOnFiveDatasets": {}}]},
    }


def write_tree(tree: dict[str, Any], folder: Path, **changes: Any) -> Path:
    """Write a config with changes, ``**{"Global.epochs": 3}``; a value of None removes the key."""
    for dotted, value in changes.items():
        *way, last = dotted.split(".")
        node = tree
        for key in way:
            node = node.setdefault(key, {})
        if value is None:
            node.pop(last)
        else:
            node[last] = value
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(tree)), sort_keys=False))  # without aliases
    return path


@pytest.fixture
def tiny_config(tiny_data: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the tiny config with changes."""
    return lambda **changes: write_tree(tiny_tree(tiny_data, tmp_path / "output"), tmp_path, **changes)


TINY_NET = {
    "Global.eval_backend": "eager",  # tracing it for oneDNN takes longer than the rest of a test
    "Global.plugins": ["tiny_plugin"],
    "Arch.Backbone": {"name": "TinyNet"},
    "Arch.Head": {"name": "ArcMargin", "embedding_size": 16, "class_num": 5, "margin": 0.2, "scale": 16},
}


@pytest.fixture
def tiny_net_config(tiny_config: Callable[..., Path]) -> Callable[..., Path]:
    """The tiny config with a network of two convolutions instead of MobileFaceNet: a step takes milliseconds."""
    return lambda **changes: tiny_config(**copy.deepcopy({**TINY_NET, **changes}))  # a test may remove a key


@pytest.fixture(autouse=True)
def _own_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command run in a test sets the log up for that test's terminal, which is closed afterwards."""
    for name, value in (("handlers", []), ("propagate", True), ("level", log.logger.level)):
        monkeypatch.setattr(log.logger, name, value)


@pytest.fixture
def log_lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log's records; the package's logger does not propagate when the command line has set it up."""
    monkeypatch.setattr(log.logger, "propagate", True)
    monkeypatch.setattr(log.logger, "filters", [])  # repeated warnings, too
    caplog.set_level("INFO", "ppfacerec")
    return caplog
