"""Every kind of file that is read: good ones to start from, how they are spoilt, and who reads them.

A sample is a dict of files by name; `spoilt` names the one that is changed. Readers import what they need when they are
called first, so that a format whose reader needs no Paddle is tried without it.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from fuzz_mutations import BYTES, PICKLE, TEXT, TREE, Change, Files, archive_of, several
from fuzz_weights import (
    bins_samples,
    checkpoint_samples,
    pdparams_samples,
    pickles_samples,
    read_bin,
    read_checkpoint,
    read_pickle,
    read_weights,
    safetensors_header,
    safetensors_samples,
    torch_samples,
    with_checksums,
    with_own_checksum,
)

MIB = 1 << 20


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


# Training data ------------------------------------------------------------------------------------------------------


def _records() -> list[Files]:
    import tempfile

    from ppfacerec.data.datasets.record_io import MAGIC, frame, pack
    from ppfacerec.datatools.record_writer import write_records

    with tempfile.TemporaryDirectory() as folder:
        image = b"\xff\xd8\xff"
        samples = ((label, image + MAGIC * k + bytes([label]) * 21) for label in range(3) for k in range(2))
        write_records(Path(folder) / "train.rec", samples)
        announced = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    plain, lines = b"", b""
    for key in range(4):
        lines += b"%d\t%d\n" % (key, len(plain))
        plain += frame(pack((float(key % 2),) if key else (0.0, 5.0), b"\xff\xd8\xffabc", key))
    return [announced, {"train.rec": plain, "train.idx": lines}]


def _read_records(folder: Path) -> Any:
    from ppfacerec.data.datasets.record_dataset import RecordIODataset

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
    from ppfacerec.data.datasets.base import ImageNetDataset

    return _read_samples(ImageNetDataset(str(folder), str(folder / "label.txt")))


def _pair_lists() -> list[Files]:
    images = {f"a/a_{k:04d}.jpg": b"\xff\xd8\xff" for k in range(4)}
    images |= {f"b/b_{k:04d}.jpg": b"\xff\xd8\xff" for k in range(4)}
    listed = b"a/a_0001.jpg\ta/a_0002.jpg\t1\na/a_0001.jpg\tb/b_0001.jpg\t0\n"
    lfw = b"2\t1\na\t1\t2\na\t1\tb\t2\nb\t1\t3\nb\t1\ta\t3\n"
    return [{**images, "pairs.txt": text} for text in (listed, lfw)]


def _read_pair_list(folder: Path) -> Any:
    from ppfacerec.data.pairs.pair_list import read_lfw_pairs, read_pair_list

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
    from ppfacerec.data.transforms.alignment import similarity_transform
    from ppfacerec.datatools.align import read_landmarks

    return [similarity_transform(points) for points in read_landmarks(str(folder / "points.txt")).values()]


def _image_lists() -> list[Files]:
    return [{"a.jpg": b"\xff\xd8", "b/c.png": b"\x89PNG", "list.txt": b"a.jpg\t0\nb/c.png\n"}]


def _read_image_list(folder: Path) -> Any:
    from ppfacerec.inference.image_files import find_images, person_of, read_image

    for path in find_images([folder / "list.txt"]):
        person_of(path, folder)
        with contextlib.suppress(ValueError):
            read_image(path, str(path))


def _images() -> list[Files]:
    import cv2

    ramp = np.add.outer(np.arange(32), np.arange(32))[..., None].repeat(3, 2).astype(np.uint8)
    return [{"image": cv2.imencode(suffix, ramp)[1].tobytes()} for suffix in (".jpg", ".png", ".bmp", ".webp")]


def _read_image(folder: Path) -> Any:
    from ppfacerec.data.transforms.images import decode_rgb

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
        "backbone": {"name": "IResNet18", "embedding_size": 512}, "embedding_size": 512, "colors": "RGB",
        "image_size": [112, 112], "scale": 1 / 255, "mean": [0.5] * 3, "std": [0.5] * 3, "flip_test": True,
        "thresholds": {"lfw": {"1e-3": {"cosine": 0.3, "tar": 0.9, "num_different": 3000.0}}},
        "licence": "none", "config": {"Global": {"epochs": 3}},
    }  # fmt: skip
    return [{"w.info.json": json.dumps(info, indent=1).encode()}]


def _read_info(folder: Path) -> Any:
    from ppfacerec.inference.face_model import FaceModel
    from ppfacerec.weights.info import read_info

    info = read_info(folder / "w.info.json")
    model = FaceModel(lambda images: np.ones((len(images), 4), np.float32), info, "w")
    return model.info.spec, info.mismatches(info), str(model.threshold(1e-3))


def _inference_ymls() -> list[Files]:
    import yaml

    info = json.loads(_infos()[0]["w.info.json"])
    tree = {"files": {"onnx": ["inference.onnx"]}, "input": {"name": "x", "dtype": "uint8"}, "model": info}
    return [{"inference.yml": yaml.safe_dump(tree).encode()}]


def _read_inference_yml(folder: Path) -> Any:
    from ppfacerec.inference.exported import read_description

    return read_description(folder / "inference.yml")


# Embeddings ---------------------------------------------------------------------------------------------------------


def _npz(**arrays: Any) -> bytes:
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    return packed.getvalue()


def _embeddings() -> list[Files]:
    rows = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    names = np.array([f"person {k}" for k in range(40)])
    return [{"e.npz": _npz(embeddings=rows, is_same=np.arange(20) % 2 == 0, identities=names)}]


def _read_embeddings(folder: Path) -> Any:
    from ppfacerec.evaluation.embeddings_file import read_embeddings

    return read_embeddings(str(folder / "e.npz")).evaluate()


def _indexes() -> list[Files]:
    rows = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = np.array(["anna", "anna", "bo", "bo", "cy", "cy"])
    parts = {"names": names, "files": names, "probe": rows[0], "nearest_others": rows[:, 0]}
    return [{"people.npz": _npz(embeddings=rows, model=np.array(json.dumps({"name": "m"})), **parts)}]


def _read_index(folder: Path) -> Any:
    from ppfacerec.inference.people_index import read_index

    index = read_index(folder / "people.npz")
    return index.search(index.probe), index.threshold(0.5)


_ANY, _PICKLED, _TEXT, _TREE = several(BYTES), several(PICKLE), several(TEXT), several(TREE)

FORMATS = {
    ".pdparams": Format(pdparams_samples, read_weights(".pdparams"), {"w.pdparams": _PICKLED}),
    ".pth zip": Format(torch_samples(False), read_weights(".pth"), {"w.pth": archive_of(PICKLE)}),
    ".pth legacy": Format(torch_samples(True), read_weights(".pth"), {"w.pth": _PICKLED}),
    ".safetensors": Format(
        safetensors_samples,
        read_weights(".safetensors"),
        {"w.safetensors": lambda rng, data: (_ANY if rng.random() < 0.3 else safetensors_header)(rng, data)},
    ),
    ".pdopt": Format(checkpoint_samples, read_checkpoint, {"latest.pdopt": _PICKLED}, with_checksums, memory=32 * MIB),
    ".pdstates": Format(
        checkpoint_samples, read_checkpoint, {"latest.pdstates": _PICKLED}, with_checksums, memory=32 * MIB
    ),
    ".pdhead": Format(
        checkpoint_samples, read_checkpoint, {"latest.head_*": _PICKLED}, with_checksums, memory=32 * MIB
    ),
    "manifest.json": Format(
        checkpoint_samples, read_checkpoint, {"latest.manifest.json": _TREE}, with_own_checksum, memory=32 * MIB
    ),
    ".bin": Format(bins_samples, read_bin, {"pairs.bin": _PICKLED}),
    ".pkl": Format(pickles_samples, read_pickle, {"x.pkl": _PICKLED}),
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
