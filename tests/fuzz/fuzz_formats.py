"""Every kind of file that is read: good ones to start from, how they are spoilt, and who reads them.

A sample is a dict of files by name; `spoilt` names the one that is changed. Readers import what they need when they are
called first, so that a format whose reader needs no Paddle is tried without it.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from fuzz_mutations import BYTES, PICKLE, TEXT, TREE, Change, archive_of, several

sys.path.append(str(Path(__file__).parents[1] / "weights_io"))

MIB = 1 << 20
Files = dict[str, bytes]


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        samples: good files.
        read: reads a folder of them, and all that is in them.
        changes: of the file `spoilt`; a name that ends in * stands for all that begin so.
        finish: makes what depends on the spoilt file right again, such as checksums.
        memory: bytes that a reader may take beside 100 times the files' size.
    """

    samples: Callable[[], Sequence[Files]]
    read: Callable[[Path], Any]
    changes: Mapping[str, Change]
    finish: Optional[Callable[[Files], Files]] = None
    memory: int = 4 * MIB


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


# Weights ------------------------------------------------------------------------------------------------------------


def _state() -> dict[str, np.ndarray]:
    values = _rng().normal(size=(4, 3)).astype(np.float32)
    return {
        "backbone.conv.weight": values.reshape(4, 3, 1, 1),
        "backbone.bn._mean": values[:, 0].copy(),
        "backbone.half": values.astype(np.float16),
        "backbone.bfloat16": np.arange(6, dtype=np.uint16).reshape(2, 3),
        "backbone.fc.weight": np.asfortranarray(values),
        "head.weight": values,
    }


def _pdparams() -> list[Files]:
    named = {**_state(), "StructuredToParameterName@@": {"backbone.conv.weight": "conv2d_0.w_0"}}
    return [{"w.pdparams": pickle.dumps(named, protocol)} for protocol in (2, 4)]


def _read_weights(suffix: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        from ppfacerec.weights_io.read import read_any

        weights = read_any(folder / f"w{suffix}")
        return {name: float(np.sum(array, dtype=np.float64)) for name, array in weights.state_dict().items()}

    return read


def _torch(legacy: bool) -> Callable[[], list[Files]]:
    def samples() -> list[Files]:
        import tempfile

        from torch_writer import Call, Instance, Named, TorchWriter

        found = []
        for nested in (False, True):
            writer = TorchWriter()
            tree: Any = OrderedDict((name.partition(".")[2], writer.tensor(a)) for name, a in _state().items())
            tree["b"] = writer.tensor(np.ones(4, np.float32), bfloat16=True)
            if nested:
                callback = Instance(Named("pytorch_lightning.callbacks", "X"), {"best": 1})
                parameter = Call(Named("torch._utils", "_rebuild_parameter"), writer.tensor(np.ones(3)), True, {})
                fc = {"weight": writer.tensor(_state()["head.weight"])}
                tree["p"] = parameter
                tree = {"epoch": 3, "state_dict": tree, "callbacks": {"x": callback}, "state_dict_softmax_fc": fc}
            with tempfile.TemporaryDirectory() as folder:
                path = (writer.write_legacy if legacy else writer.write)(Path(folder) / "w.pth", tree)
                found.append({"w.pth": path.read_bytes()})
        return found

    return samples


def _safetensors() -> list[Files]:
    import tempfile

    from ppfacerec.weights_io.safetensors_file import write_safetensors

    with tempfile.TemporaryDirectory() as folder:
        arrays = {name: np.ascontiguousarray(a) for name, a in _state().items() if a.dtype != np.uint16}
        write_safetensors(Path(folder) / "w.safetensors", arrays, {"made": "by hand"})
        content = (Path(folder) / "w.safetensors").read_bytes()
    return [{"w.safetensors": content}]


def _safetensors_header(rng: Any, data: bytes) -> bytes:
    """Change the JSON header, and tell its new length."""
    if len(data) < 8:
        return data
    length = struct.unpack("<Q", data[:8])[0]
    header = several(TREE)(rng, data[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


# Checkpoints --------------------------------------------------------------------------------------------------------


def _checkpoint() -> list[Files]:
    optimizers = {"backbone.conv.weight": {"moment1_0": np.ones((4, 3), np.float32), "beta1_pow_acc_0": np.ones(1)}}
    states = {
        "progress": {"epoch": 1, "iteration": 2, "global_step": 2, "best_accuracy": 0.5, "best_epoch": 1},
        "schedule": {"last_epoch": 2, "last_lr": 1e-3},
        "ema": {"backbone.conv.weight": np.ones((4, 3), np.float32)},
    }
    shards = {f".head_{r}_of_2.pdhead": {"weight": np.ones((2, 3), np.float32)} for r in range(2)}
    files = {
        "latest.pdparams": pickle.dumps(_state(), 4),
        "latest.pdopt": pickle.dumps(optimizers, 4),
        "latest.pdstates": pickle.dumps(states, 4),
        **{f"latest{suffix}": pickle.dumps(shard, 4) for suffix, shard in shards.items()},
    }
    manifest: dict[str, Any] = {name[len("latest") :]: {"size": 0, "sha256": ""} for name in files}
    for rank, suffix in enumerate(shards):
        manifest[suffix] |= {"rows": [2 * rank, 2 * rank + 2], "columns": 3}
    return [_with_checksums({**files, "latest.manifest.json": json.dumps(manifest, indent=2).encode()})]


def _with_checksums(files: Files) -> Files:
    """The manifest for the files as they are: who makes a hostile file makes its checksum too."""
    import hashlib

    try:
        manifest = json.loads(files["latest.manifest.json"])
        for suffix, entry in manifest.items():
            content = files.get(f"latest{suffix}")
            if content is not None:
                entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    except (ValueError, TypeError, AttributeError, RecursionError):  # the manifest is what was spoilt
        return files
    return {**files, "latest.manifest.json": json.dumps(manifest, indent=2).encode()}


def _read_checkpoint(folder: Path) -> Any:
    from ppfacerec.engine.checkpoint import load_states
    from ppfacerec.engine.weights import read_weights

    load_states(folder / "latest")
    state = read_weights(folder / "latest.pdparams")
    head = state["head.weight"]
    return head.rows(0, head.shape[1]) if hasattr(head, "rows") else head


# Pickles ------------------------------------------------------------------------------------------------------------


def _bins() -> list[Files]:
    jpegs = [b"\xff\xd8\xff" + bytes([k]) * 20 + b"\xff\xd9" for k in range(4)]
    arrays = [np.frombuffer(image, np.uint8) for image in jpegs]
    python2 = b"\x80\x02]q\x01(" + b"".join(b"U" + bytes([len(j)]) + j for j in jpegs) + b"e]q\x02(\x88\x89e\x86."
    contents = [pickle.dumps((jpegs, [True, False]), 4), pickle.dumps((arrays, [True, False]), 3), python2]
    return [{"pairs.bin": content} for content in contents]


def _read_bin(folder: Path) -> Any:
    from ppfacerec.data.pair_bin import read_bin

    pairs = read_bin(folder / "pairs.bin")
    return [(pairs.where(i), len(pairs.read(i))) for i in range(pairs.num_images)]


def _pickles() -> list[Files]:
    shared = np.arange(6.0).reshape(2, 3)
    value = {
        "a": [1, 2.5, None, True, "e\u0301"],
        "b": (shared, {"again": shared}),
        7: np.float32(1),
        "d": OrderedDict(x=1),
    }
    return [{"x.pkl": pickle.dumps(value, protocol)} for protocol in range(6)]


def _read_pickle(folder: Path) -> Any:
    from ppfacerec import safe_pickle

    return safe_pickle.load(folder / "x.pkl")


# Training data ------------------------------------------------------------------------------------------------------


def _records() -> list[Files]:
    import tempfile

    from ppfacerec.data.record_io import MAGIC, frame, pack
    from ppfacerec.data.record_writer import RecordWriter

    with tempfile.TemporaryDirectory() as folder:
        with RecordWriter(folder) as writer:
            for label in range(3):
                for image in range(2):
                    writer.add(label, b"\xff\xd8\xff" + MAGIC * image + bytes([label]) * 21)
        announced = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    plain, lines = b"", b""
    for key in range(4):
        lines += b"%d\t%d\n" % (key, len(plain))
        plain += frame(pack((float(key % 2),) if key else (0.0, 5.0), b"\xff\xd8\xffabc", key))
    return [announced, {"train.rec": plain, "train.idx": lines}]


def _read_records(folder: Path) -> Any:
    from ppfacerec.data.record_dataset import RecordIODataset

    return _read_samples(RecordIODataset(str(folder)))


def _read_samples(dataset: Any) -> list[str]:
    """Every sample; what cannot be read must be a ValueError too, and does not end it."""
    found, first = [], None
    for index in range(len(dataset)):
        try:
            found.append(f"{dataset.where(index)} {len(dataset.read(index))} {dataset.labels[index]}")
        except ValueError as error:
            first = first or error
    if first is not None:
        raise first
    return found


def _label_files() -> list[Files]:
    images = {f"images/{k}.jpg": b"\xff\xd8\xff" for k in range(4)}
    tabs = "".join(f"{name}\t{k % 2}\n" for k, name in enumerate(images)).encode()
    return [{**images, "label.txt": text} for text in (tabs, tabs.replace(b"\t", b" ").replace(b"\n", b"\r\n"))]


def _read_label_file(folder: Path) -> Any:
    from ppfacerec.data.datasets import ImageNetDataset

    return _read_samples(ImageNetDataset(str(folder), str(folder / "label.txt")))


def _pair_lists() -> list[Files]:
    images = {f"a/a_{k:04d}.jpg": b"\xff\xd8\xff" for k in range(4)}
    images |= {f"b/b_{k:04d}.jpg": b"\xff\xd8\xff" for k in range(4)}
    listed = b"a/a_0001.jpg\ta/a_0002.jpg\t1\na/a_0001.jpg\tb/b_0001.jpg\t0\n"
    lfw = b"2\t1\na\t1\t2\na\t1\tb\t2\nb\t1\t3\nb\t1\ta\t3\n"
    return [{**images, "pairs.txt": text} for text in (listed, lfw)]


def _read_pair_list(folder: Path) -> Any:
    from ppfacerec.data.pair_list import read_lfw_pairs, read_pair_list

    first = (folder / "pairs.txt").read_bytes().split()[:1]
    read = read_lfw_pairs if first and first[0].isdigit() else read_pair_list
    pairs = read(str(folder / "pairs.txt"), str(folder))
    return [(pairs.where(i), pairs.read(i)) for i in range(pairs.num_images)]


def _landmarks() -> list[Files]:
    return [
        {
            "points.txt": b"a/1.jpg 38.2 51.6 73.5 51.5 56.0 71.7 41.5 92.3 70.7 92.2\nb.jpg\t1\t2\t3\t4\t5\t6\t7\t8\t9\t10\n"
        }
    ]


def _read_landmarks(folder: Path) -> Any:
    from ppfacerec.data.align import read_landmarks, similarity_transform

    return [similarity_transform(points) for points in read_landmarks(str(folder / "points.txt")).values()]


def _image_lists() -> list[Files]:
    return [{"a.jpg": b"\xff\xd8", "b/c.png": b"\x89PNG", "list.txt": b"a.jpg\t0\nb/c.png\n"}]


def _read_image_list(folder: Path) -> Any:
    from ppfacerec.apply.image_files import find_images, person_of, read_image

    for path in find_images([folder / "list.txt"]):
        person_of(path, folder)
        with contextlib.suppress(ValueError):
            read_image(path, str(path))


def _images() -> list[Files]:
    import cv2

    ramp = np.add.outer(np.arange(32), np.arange(32))[..., None].repeat(3, 2).astype(np.uint8)
    return [{"image": cv2.imencode(suffix, ramp)[1].tobytes()} for suffix in (".jpg", ".png", ".bmp", ".webp")]


def _read_image(folder: Path) -> Any:
    from ppfacerec.data.images import decode_rgb

    return decode_rgb((folder / "image").read_bytes(), "image").shape


# Text that describes ------------------------------------------------------------------------------------------------

_ROOT = Path(__file__).parents[2]


def _configs() -> list[Files]:
    import re

    text = (_ROOT / "configs" / "quickstart.yaml").read_text(encoding="utf-8")
    text = "\n".join(line for line in text.splitlines() if not re.match(r"\s*#", line))
    merged = b"a: &a {name: x, list: [1, 2, 3]}\nb: &b [*a, *a, *a]\nc: {4e-3: 1.0/255.0, t: 2001-01-01}\ne: !!omap [{k: *a}]\nd: *b\n"
    return [{"config.yaml": text.encode()}, {"config.yaml": merged}]


def _read_config(folder: Path) -> Any:
    from ppfacerec.config import load_config

    return load_config(folder / "config.yaml", ["Global.plugins=[]"], "export")[0]


def _read_yaml(folder: Path) -> Any:
    from ppfacerec.config.yaml_file import read_yaml

    return read_yaml(folder / "config.yaml")


def _infos() -> list[Files]:
    info = {
        "backbone": {"name": "IResNet18", "num_features": 512}, "embedding_size": 512, "colors": "RGB",
        "image_size": [112, 112], "scale": 1 / 255, "mean": [0.5] * 3, "std": [0.5] * 3, "flip_test": True,
        "thresholds": {"lfw": {"1e-3": {"cosine": 0.3, "tar": 0.9, "num_different": 3000.0}}},
        "licence": "none", "config": {"Global": {"epochs": 3}},
    }  # fmt: skip
    return [{"w.info.json": json.dumps(info, indent=1).encode()}]


def _read_info(folder: Path) -> Any:
    from ppfacerec.apply.face_model import FaceModel
    from ppfacerec.model_info import read_info

    info = read_info(folder / "w.info.json")
    model = FaceModel(lambda images: np.ones((len(images), 4), np.float32), info, "w")
    return model.info.spec, info.mismatches(info), str(model.threshold(1e-3))


def _inference_ymls() -> list[Files]:
    import yaml

    info = json.loads(_infos()[0]["w.info.json"])
    tree = {"files": {"onnx": ["inference.onnx"]}, "input": {"name": "x", "dtype": "uint8"}, "model": info}
    return [{"inference.yml": yaml.safe_dump(tree).encode()}]


def _read_inference_yml(folder: Path) -> Any:
    from ppfacerec.apply.exported import read_description

    return read_description(folder)


# Embeddings ---------------------------------------------------------------------------------------------------------


def _npz(**arrays: Any) -> bytes:
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    return packed.getvalue()


def _embeddings() -> list[Files]:
    rows = _rng().normal(size=(40, 4)).astype(np.float32)
    names = np.array([f"person {k}" for k in range(40)])
    return [{"e.npz": _npz(embeddings=rows, is_same=np.arange(20) % 2 == 0, identities=names)}]


def _read_embeddings(folder: Path) -> Any:
    from ppfacerec.embeddings_file import read_embeddings

    return read_embeddings(str(folder / "e.npz")).evaluate()


def _indexes() -> list[Files]:
    rows = _rng().normal(size=(6, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = np.array(["anna", "anna", "bo", "bo", "cy", "cy"])
    parts = {"names": names, "files": names, "probe": rows[0], "nearest_others": rows[:, 0]}
    return [{"people.npz": _npz(embeddings=rows, model=np.array(json.dumps({"name": "m"})), **parts)}]


def _read_index(folder: Path) -> Any:
    from ppfacerec.apply.people_index import read_index

    index = read_index(folder / "people.npz")
    return index.search(index.probe), index.threshold(0.5)


_ANY, _PICKLED, _TEXT, _TREE = several(BYTES), several(PICKLE), several(TEXT), several(TREE)

FORMATS = {
    ".pdparams": Format(_pdparams, _read_weights(".pdparams"), {"w.pdparams": _PICKLED}),
    ".pth zip": Format(_torch(False), _read_weights(".pth"), {"w.pth": archive_of(PICKLE)}),
    ".pth legacy": Format(_torch(True), _read_weights(".pth"), {"w.pth": _PICKLED}),
    ".safetensors": Format(
        _safetensors,
        _read_weights(".safetensors"),
        {"w.safetensors": lambda rng, data: (_ANY if rng.random() < 0.3 else _safetensors_header)(rng, data)},
    ),
    ".pdopt": Format(_checkpoint, _read_checkpoint, {"latest.pdopt": _PICKLED}, _with_checksums, memory=32 * MIB),
    ".pdstates": Format(_checkpoint, _read_checkpoint, {"latest.pdstates": _PICKLED}, _with_checksums, memory=32 * MIB),
    ".pdhead": Format(_checkpoint, _read_checkpoint, {"latest.head_*": _PICKLED}, _with_checksums, memory=32 * MIB),
    "manifest.json": Format(_checkpoint, _read_checkpoint, {"latest.manifest.json": _TREE}, memory=32 * MIB),
    ".bin": Format(_bins, _read_bin, {"pairs.bin": _PICKLED}),
    ".pkl": Format(_pickles, _read_pickle, {"x.pkl": _PICKLED}),
    ".rec": Format(_records, _read_records, {"train.rec": _ANY}),
    ".idx": Format(_records, _read_records, {"train.idx": _TEXT}),
    "label.txt": Format(_label_files, _read_label_file, {"label.txt": _TEXT}),
    "pairs.txt": Format(_pair_lists, _read_pair_list, {"pairs.txt": _TEXT}),
    "landmarks": Format(_landmarks, _read_landmarks, {"points.txt": _TEXT}),
    "image list": Format(_image_lists, _read_image_list, {"list.txt": _TEXT}),
    "images": Format(_images, _read_image, {"image": _ANY}, memory=256 * MIB),
    "YAML": Format(_configs, _read_yaml, {"config.yaml": _TREE}, memory=64 * MIB),
    "YAML config": Format(_configs, _read_config, {"config.yaml": _TREE}, memory=64 * MIB),
    "info.json": Format(_infos, _read_info, {"w.info.json": _TREE}),
    "inference.yml": Format(_inference_ymls, _read_inference_yml, {"inference.yml": _TREE}, memory=64 * MIB),
    "embeddings .npz": Format(_embeddings, _read_embeddings, {"e.npz": archive_of(BYTES)}),
    "people .npz": Format(_indexes, _read_index, {"people.npz": archive_of(BYTES)}),
}
