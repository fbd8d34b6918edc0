"""One malicious file of each kind, through the door a user would open it by: told, and nothing happens.

tests/test_safe_pickle.py and tests/weights_io/test_torch_file.py have more of pickles, tests/fuzz all of it at random.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppfacerec.cli import main
from ppfacerec.core.io.safe_pickle import UnsafePickleError, load
from ppfacerec.data.datasets.base import ImageNetDataset
from ppfacerec.data.datasets.record_dataset import RecordIODataset
from ppfacerec.data.datasets.record_io import MAGIC
from ppfacerec.data.pairs.pair_bin import read_bin
from ppfacerec.data.pairs.pair_list import read_lfw_pairs, read_pair_list
from ppfacerec.inference.exported import read_description, read_metadata
from ppfacerec.inference.image_files import find_images
from ppfacerec.inference.people_index import read_index
from ppfacerec.training.checkpoints.checkpoint import load_states
from ppfacerec.training.checkpoints.files.manifest import Manifest
from ppfacerec.weights.info import read_info
from ppfacerec.weights.read import read_any

sys.path.append(str(Path(__file__).parent / "weights_io"))
from torch_writer import Call, Instance, Named, TorchWriter

GOOD = np.ones((2, 3), np.float32)
TERABYTE = 1 << 40


class Payload:
    """Pickles as a call of os.system."""

    def __reduce__(self) -> Any:
        return os.system, ("touch hacked",)


def checkpoint(folder: Path, **contents: bytes) -> Path:
    """A checkpoint whose checksums are right: who makes a hostile one makes them too."""
    manifest = {}
    for suffix in ("pdparams", "pdopt", "pdstates"):
        content = contents.get(suffix, pickle.dumps({"w": GOOD}, 4))
        (folder / f"latest.{suffix}").write_bytes(content)
        manifest[f".{suffix}"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "latest.manifest.json").write_text(Manifest(manifest).to_text())
    return folder / "latest"


def torch_file(folder: Path, legacy: bool, tree: Any) -> Path:
    writer = TorchWriter()
    return (writer.write_legacy if legacy else writer.write)(folder / "w.pth", {"a": writer.tensor(GOOD), "b": tree})


def with_file(name: str, read: Callable[[Path], Any]) -> Callable[[Path, bytes], Any]:
    def run(folder: Path, content: bytes) -> Any:
        (folder / name).write_bytes(content)
        return read(folder / name)

    return run


PICKLED = {
    ".bin": with_file("lfw.bin", read_bin),
    ".pdparams": with_file("w.pdparams", read_any),
    ".pdopt": lambda folder, content: load_states(checkpoint(folder, pdopt=content)),
    ".pdstates": lambda folder, content: load_states(checkpoint(folder, pdstates=content)),
    ".pkl": with_file("x.pkl", load),
}


@pytest.mark.parametrize("kind", PICKLED)
def test_a_pickle_that_calls_the_shell_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafePickleError, match=r"is not safe to open: it tries to import posix\.system\. Nothing was"):
        PICKLED[kind](tmp_path, pickle.dumps({"w": GOOD, "x": Payload()}, 4))
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "payload",
    [
        Call(Named("posix", "system"), "touch hacked"),
        Call(Named("builtins", "exec"), "open('hacked', 'w')"),
        Call(Named("torch.serialization", "load"), "x"),
        Instance(Named("torch.utils.data", "Dataset"), {"__reduce__": 1}),
    ],
    ids=["system", "exec", "torch", "instance"],
)
def test_a_pytorch_file_calls_nothing(tmp_path, monkeypatch, legacy, payload):
    """Names of torch stand for objects that are not made; others are refused."""
    monkeypatch.chdir(tmp_path)
    path, modules = torch_file(tmp_path, legacy, payload), set(sys.modules)
    with contextlib.suppress(UnsafePickleError):
        assert list(read_any(path).backbone) == ["a"]
    assert not (tmp_path / "hacked").exists()
    assert {name for name in set(sys.modules) - modules if name.startswith(("torch", "posix"))} == set()


# Files that ask for a terabyte -------------------------------------------------------------------------------------

HUGE_BYTES = b"\x80\x04\x95" + struct.pack("<Q", TERABYTE) + b"\x8e" + struct.pack("<Q", TERABYTE) + b"abc"
HUGE_ARRAY = pickle.dumps({"w": GOOD}, 2).replace(
    b"K\x02K\x03\x86", b"\x8a\x06" + struct.pack("<q", TERABYTE)[:6] + b"K\x01\x86"
)


def huge_torch(folder: Path, legacy: bool) -> Path:
    writer = TorchWriter()
    stored = writer.store(GOOD.reshape(-1))
    view = writer.view(stored, 0, (TERABYTE,), (1,))
    stored.array = np.lib.stride_tricks.as_strided(stored.array, (TERABYTE,), (0,))  # its announced length
    return (writer.write_legacy if legacy else writer.write)(folder / "w.pth", {"a": view})


def huge_safetensors(folder: Path) -> Path:
    entry = {"dtype": "F32", "shape": [TERABYTE // 4], "data_offsets": [0, TERABYTE]}
    header = json.dumps({"w": entry}).encode()
    (folder / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    return folder / "w.safetensors"


def huge_header(folder: Path) -> Path:
    (folder / "w.safetensors").write_bytes(struct.pack("<Q", TERABYTE) + b'{"a":1}' + bytes(16))
    return folder / "w.safetensors"


def huge_record(folder: Path, word: int, labels: int) -> RecordIODataset:
    data = struct.pack("<IfQQ", labels, 0.0, 0, 0) + b"\xff\xd8\xff"
    (folder / "train.rec").write_bytes(MAGIC + struct.pack("<I", word or len(data)) + data)
    (folder / "train.idx").write_text("1\t0\n")
    dataset = RecordIODataset(str(folder))
    return dataset.read(0)


def huge_npz(folder: Path) -> Path:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({TERABYTE}, 1), }}".ljust(117) + "\n"
    with zipfile.ZipFile(folder / "people.npz", "w") as archive:
        archive.writestr("embeddings.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.encode())
    return folder / "people.npz"


def packed_npz(folder: Path) -> Path:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(25 * 2**20, np.float32))
    with zipfile.ZipFile(folder / "people.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("embeddings.npy", buffer.getvalue())
    del buffer
    return folder / "people.npz"


TERABYTES = {
    **{f"{kind}, bytes": lambda folder, k=kind: PICKLED[k](folder, HUGE_BYTES) for kind in PICKLED},
    **{f"{kind}, array": lambda folder, k=kind: PICKLED[k](folder, HUGE_ARRAY) for kind in PICKLED},
    "PyTorch, zip": lambda folder: read_any(huge_torch(folder, False)),
    "safetensors, tensor": lambda folder: read_any(huge_safetensors(folder)),
    "safetensors, header": lambda folder: read_any(huge_header(folder)),
    "RecordIO, length": lambda folder: huge_record(folder, (1 << 29) - 1, 0),
    "RecordIO, labels": lambda folder: huge_record(folder, 0, 2**32 - 1),
    ".npz": lambda folder: read_index(huge_npz(folder)),
}


@pytest.mark.parametrize("kind", TERABYTES)
def test_a_header_that_asks_for_a_terabyte_takes_no_memory(tmp_path, kind):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"damaged|is not an index|should have|truncated|declares|not fit"):
            TERABYTES[kind](tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_packed_index_that_unfolds_a_thousandfold_is_refused(tmp_path):
    path = packed_npz(tmp_path)
    tracemalloc.start()
    with pytest.raises(
        ValueError, match=r"is not an index of people \(it would expand to 104,857,728 bytes, far more than"
    ):
        read_index(path)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_one_array_under_thousands_of_names_does_not_fill_the_memory(tmp_path):
    tied = {f"backbone.{i}": np.ones(100_000, np.float16) for i in range(1)}
    tied.update({f"backbone.{i}": tied["backbone.0"] for i in range(1, 5000)})
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps(tied, 4))
    with pytest.raises(ValueError, match=r"w\.pdparams: its tensors are views of each other and expand to far more"):
        read_any(tmp_path / "w.pdparams")


def test_modules_that_hold_each_other_twice_do_not_unfold(tmp_path):
    writer, module = TorchWriter(), Named("__torch__", "Net")
    inner: Any = Instance(module, {"weight": writer.tensor(GOOD)})
    for _ in range(18):
        inner = Instance(module, {"a": inner, "b": inner})
    with pytest.raises(ValueError, match="a module expands to more than 100,000 tensors"):
        read_any(writer.write(tmp_path / "w.pt", inner))


def test_a_list_of_storages_of_other_kinds_is_refused(tmp_path):
    path = torch_file(tmp_path, True, 1)
    content = path.read_bytes()
    path.write_bytes(content.replace(pickle.dumps(["0"], 2), pickle.dumps([0], 2)))
    assert path.read_bytes() != content
    with pytest.raises(ValueError, match="its list of storages does not match its tensors"):
        read_any(path)


# Paths that lead elsewhere ------------------------------------------------------------------------------------------

OUTSIDE = ["../../etc/passwd.jpg", "/etc/passwd.jpg", "a/../../x.jpg"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_list_leads_out_of_its_folder(tmp_path, name):
    (tmp_path / "list.txt").write_text(f"{name}\t0\n")
    with pytest.raises(ValueError, match=r"list\.txt, line 1: .* leaves the image folder"):
        ImageNetDataset(str(tmp_path), str(tmp_path / "list.txt"))
    with pytest.raises(ValueError, match=r"list\.txt, line 1: .* leads out of the list's folder"):
        find_images([tmp_path / "list.txt"])
    assert find_images([tmp_path / "list.txt"], allow_outside=True) == [tmp_path / name]
    (tmp_path / "pairs.txt").write_text(f"{name}\t{name}\t1\n")
    with pytest.raises(ValueError, match=r"pairs\.txt, line 1: '.*' leaves the image folder"):
        read_pair_list(str(tmp_path / "pairs.txt"), str(tmp_path))
    (tmp_path / "lfw.txt").write_text("1\n../../etc\t1\t2\na\t1\tb\t1\n")
    with pytest.raises(ValueError, match=r"lfw\.txt, line 2: '.*etc_0001\.jpg' leaves the image folder"):
        read_lfw_pairs(str(tmp_path / "lfw.txt"), str(tmp_path))


@pytest.mark.parametrize("name", ["../x.onnx", "/etc/x.onnx", "a/b.onnx", "a\0.onnx"])
def test_an_exported_model_names_files_of_its_own_folder(tmp_path, name):
    (tmp_path / "inference.yml").write_text(
        json.dumps({"files": {"onnx": [name]}, "input": {"dtype": "x"}, "model": {}})
    )
    with pytest.raises(ValueError, match=r"inference\.yml: files: expected a file in this folder, found"):
        read_description(tmp_path / "inference.yml")


@pytest.mark.parametrize("suffix", ["/../../x.pdhead", "\0.pdhead"])
def test_a_manifest_names_files_of_its_own_checkpoint(tmp_path, suffix):
    prefix = checkpoint(tmp_path)
    files = Manifest.read(prefix).files
    manifest = Manifest({**files, suffix: {"size": 1, "sha256": "0" * 64}})
    (tmp_path / "latest.manifest.json").write_text(manifest.to_text())
    with pytest.raises(ValueError):
        load_states(prefix)


@pytest.mark.parametrize("lie", [{"saved_at": "now"}, {"progress": []}, {"progress": {"global_step": "x"}}, {"run": 1}])
def test_a_manifest_that_cannot_be_compared_is_damaged(tmp_path, lie):
    """Its checksum is right: who writes a lie writes its checksum too."""
    prefix = checkpoint(tmp_path)
    path = tmp_path / "latest.manifest.json"
    content = {"saved_at": 1.0, "run": "a", "progress": {}, "files": json.loads(path.read_text())["files"], **lie}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**content, "checksum": digest}))
    with pytest.raises(
        ValueError, match=r"latest is damaged: .*latest\.manifest\.json (lacks the time|is not a manifest)"
    ):
        load_states(prefix)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_among_the_images_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "label.txt").write_text("a.jpg\t0\n")
    with pytest.raises(ValueError, match=r"a\.jpg is not a regular file"):
        ImageNetDataset(str(tmp_path), str(tmp_path / "label.txt")).read(0)


def test_a_name_with_a_nul_is_told_with_its_line(tmp_path):
    (tmp_path / "label.txt").write_bytes(b"a\0b.jpg\t0\n")
    with pytest.raises(ValueError, match=r"label\.txt, line 1: b'a\\x00b\.jpg\\t0' is not UTF-8 \(a NUL byte"):
        ImageNetDataset(str(tmp_path), str(tmp_path / "label.txt"))


# Descriptions -------------------------------------------------------------------------------------------------------

INFO = {"backbone": {"name": "IResNet18"}, "embedding_size": 512}
LIES = [
    ({"embedding_size": TERABYTE}, "embedding_size: expected a positive int"),
    ({"backbone": {"name": "IResNet18", "embedding_size": TERABYTE}}, "backbone: expected a mapping with the network's name"),
    ({"std": [0.5, 0, 0.5]}, "std: expected 3 numbers other than 0"),
    ({"mean": [1e400, 0, 0]}, "mean: expected 3 numbers"),
    ({"scale": 10**400}, "scale: expected a number"),
    ({"image_size": [112, -1]}, "image_size: expected height and width"),
    ({"thresholds": {"lfw": {"1e-3": {"cosine": float("nan"), "tar": 1, "num_different": 1}}}}, "thresholds: expected"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), LIES)
def test_an_info_file_with_senseless_numbers_is_refused(tmp_path, change, message):
    (tmp_path / "w.info.json").write_text(json.dumps({**INFO, **change}))
    with pytest.raises(ValueError, match=message):
        read_info(tmp_path / "w.info.json")


def test_json_without_end_is_refused(tmp_path):
    deep = "[" * 100_000
    (tmp_path / "w.info.json").write_text(deep)
    with pytest.raises(ValueError, match=r"w\.info\.json: expected JSON"):
        read_info(tmp_path / "w.info.json")
    with pytest.raises(ValueError, match=r"x\.onnx: its metadata is not JSON"):
        read_metadata(tmp_path / "x.onnx", {"ppfacerec": deep})


def test_a_bomb_of_yaml_beside_an_exported_model_is_refused(tmp_path):
    lines = [
        "a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]",
        *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)),
    ]
    (tmp_path / "inference.yml").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="its aliases expand to more than 100,000 values"):
        read_description(tmp_path / "inference.yml")


def test_names_of_enrolled_people_are_shown_safely(tmp_path, capsys):
    from ppfacerec.core.log import table

    np.savez(
        tmp_path / "people.npz", embeddings=np.eye(2, 4, dtype=np.float32), names=np.array(["anna\x1b[2J\u202e", "bo"]),
        files=np.array(["a", "b"]), probe=np.full(4, 0.5, np.float32), nearest_others=np.zeros(2, np.float32),
        model=np.array('{"name": "m"}'),
    )  # fmt: skip
    index = read_index(tmp_path / "people.npz")
    match = index.search(np.eye(2, 4, dtype=np.float32)[0])[0]
    assert r"anna\x1b[2J\u202e" in table(["person"], [[match.name]])


def test_the_command_line_tells_a_hostile_file_in_one_line(tmp_path, capsys):
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps({"x\x1b[2J": Payload()}, 4))
    assert main(["convert-weights", str(tmp_path / "w.pdparams"), str(tmp_path / "out.pdparams")]) == 1
    text = capsys.readouterr().out
    assert "is not safe to open" in text and "\x1b" not in text and len(text.splitlines()) == 1
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps({"x\x1b[2J\n[2026": GOOD}, 4))
    assert main(["convert-weights", str(tmp_path / "w.pdparams"), str(tmp_path / "out.pdparams")]) == 1
    text = capsys.readouterr().out
    assert r"x\x1b[2J" in text and "\n[2026:" not in text
