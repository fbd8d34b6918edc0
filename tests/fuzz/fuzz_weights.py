"""Weights, checkpoints and other pickles for fuzz_formats.py: good ones to start from, and who reads them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_mutations import TREE, Files, several

sys.path.append(str(Path(__file__).parents[1] / "weights_io"))


# Weights ------------------------------------------------------------------------------------------------------------

MANIFEST = "latest.manifest.json"


def _state() -> dict[str, np.ndarray]:
    values = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    return {
        "backbone.conv.weight": values.reshape(4, 3, 1, 1),
        "backbone.bn._mean": values[:, 0].copy(),
        "backbone.half": values.astype(np.float16),
        "backbone.bfloat16": np.arange(6, dtype=np.uint16).reshape(2, 3),
        "backbone.fc.weight": np.asfortranarray(values),
        "head.weight": values,
    }


def pdparams_samples() -> list[Files]:
    named = {**_state(), "StructuredToParameterName@@": {"backbone.conv.weight": "conv2d_0.w_0"}}
    return [{"w.pdparams": pickle.dumps(named, protocol)} for protocol in (2, 4)]


def read_weights(suffix: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        from ppfacerec.weights.read import read_any

        weights = read_any(folder / f"w{suffix}")
        return {name: float(np.sum(array, dtype=np.float64)) for name, array in weights.state_dict().items()}

    return read


def torch_samples(legacy: bool) -> Callable[[], list[Files]]:
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


def safetensors_samples() -> list[Files]:
    import tempfile

    from ppfacerec.weights.formats.safetensors_file import write_safetensors

    with tempfile.TemporaryDirectory() as folder:
        arrays = {name: np.ascontiguousarray(a) for name, a in _state().items() if a.dtype != np.uint16}
        write_safetensors(Path(folder) / "w.safetensors", arrays)
        content = (Path(folder) / "w.safetensors").read_bytes()
    return [{"w.safetensors": content}]


def safetensors_header(rng: Any, data: bytes) -> bytes:
    """Change the JSON header, and tell its new length."""
    if len(data) < 8:
        return data
    length = struct.unpack("<Q", data[:8])[0]
    header = several(TREE)(rng, data[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


# Checkpoints --------------------------------------------------------------------------------------------------------


def checkpoint_samples() -> list[Files]:
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
    progress = {"epoch": 1, "global_step": 2}
    whole = {"saved_at": 1.5, "run": "abc", "progress": progress, "files": manifest, "checksum": ""}
    # As it was before it had more than the files, and as it is now.
    return [with_checksums({**files, MANIFEST: json.dumps(whole, indent=2).encode()})]


def with_checksums(files: Files) -> Files:
    """The manifest for the files as they are: who makes a hostile file makes its checksum too."""
    try:
        manifest = json.loads(files[MANIFEST])
        for suffix, entry in manifest["files"].items():
            content = files.get(f"latest{suffix}")
            if content is not None:
                entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):  # the manifest is what was spoilt
        return files
    return with_own_checksum({**files, MANIFEST: json.dumps(manifest, indent=2).encode()})


def with_own_checksum(files: Files) -> Files:
    """The manifest's checksum of itself, as the manifest is."""
    try:
        manifest = json.loads(files[MANIFEST])
        manifest.pop("checksum")
        checksum = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
        return {**files, MANIFEST: json.dumps({**manifest, "checksum": checksum}, indent=2).encode()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):  # no manifest any more
        return files


def read_checkpoint(folder: Path) -> Any:
    from ppfacerec.training.checkpoints.checkpoint import load_states
    from ppfacerec.training.checkpoints.pretrained import read_weights
    from ppfacerec.training.checkpoints.resume import newest_complete

    with contextlib.suppress(ValueError):  # each of the three ways to open one
        newest_complete(folder)
    load_states(folder / "latest")
    state = read_weights(folder / "latest.pdparams")
    head = state["head.weight"]
    return head.rows(0, head.shape[1]) if hasattr(head, "rows") else head


# Pickles ------------------------------------------------------------------------------------------------------------


def bins_samples() -> list[Files]:
    jpegs = [b"\xff\xd8\xff" + bytes([k]) * 20 + b"\xff\xd9" for k in range(4)]
    arrays = [np.frombuffer(image, np.uint8) for image in jpegs]
    python2 = b"\x80\x02]q\x01(" + b"".join(b"U" + bytes([len(j)]) + j for j in jpegs) + b"e]q\x02(\x88\x89e\x86."
    contents = [pickle.dumps((jpegs, [True, False]), 4), pickle.dumps((arrays, [True, False]), 3), python2]
    return [{"pairs.bin": content} for content in contents]


def read_bin(folder: Path) -> Any:
    from ppfacerec.data.pairs.pair_bin import read_bin

    pairs = read_bin(folder / "pairs.bin")
    return [(pairs.where(i), len(pairs.read(i))) for i in range(pairs.num_images)]


def pickles_samples() -> list[Files]:
    shared = np.arange(6.0).reshape(2, 3)
    value = {
        "a": [1, 2.5, None, True, "e\u0301"],
        "b": (shared, {"again": shared}),
        7: np.float32(1),
        "d": OrderedDict(x=1),
    }
    return [{"x.pkl": pickle.dumps(value, protocol)} for protocol in range(6)]


def read_pickle(folder: Path) -> Any:
    from ppfacerec.core.io import safe_pickle

    return safe_pickle.load(folder / "x.pkl")
