"""Load weights from a file into a network, with a report; nothing is loaded if something does not match."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ppfacerec.config import weights_file
from ppfacerec.core import distributed
from ppfacerec.core.io import safe_pickle
from ppfacerec.core.log import logger
from ppfacerec.core.registry import Spec, thaw
from ppfacerec.data.datasets.base import TrainDataset, class_name
from ppfacerec.data.datasets.class_identity import ClassIdentity
from ppfacerec.recognizer import HEAD_WEIGHT, FaceRecognizer
from ppfacerec.training.checkpoints.files.checkpoint_files import sha256
from ppfacerec.training.checkpoints.files.head_shards import ShardedArray, ShardReader, shard_files, whole_arrays
from ppfacerec.training.checkpoints.files.manifest import Manifest
from ppfacerec.training.checkpoints.saved_layout import from_saved, saved_shapes
from ppfacerec.weights import report as weights_report
from ppfacerec.weights.fetch import fetch
from ppfacerec.weights.info import ModelInfo, info_beside, known_info
from ppfacerec.weights.read import Weights, read_any
from ppfacerec.weights.report import WeightsReport, match_shapes
from ppfacerec.weights.zoo import ZOO

LoadHead = Literal["auto", True, False]


def read_weights(path: str | Path) -> dict[str, Any]:
    """Read weights of any format, using the allow-list; keys of a plain backbone get the prefix ``backbone.``.

    A head stored in shards is returned as a ``ShardedArray``.

    Raises:
        ValueError: the file is not a dict of arrays, is damaged, or would import something else when unpickled.
    """
    file = weights_file(str(path))
    return {**read_any(file).state_dict(), **_sharded_head(Path(file))}


def _sharded_head(path: Path) -> dict[str, ShardedArray]:
    prefix = path.with_suffix("")
    try:
        shards = shard_files(prefix, Manifest.read(prefix).files)
    except FileNotFoundError:
        return {}
    return {HEAD_WEIGHT: ShardedArray(ShardReader(shards), "weight")} if shards else {}


def match_weights(recognizer: FaceRecognizer, weights: Mapping[str, Any]) -> WeightsReport:
    """Compare names and shapes."""
    return match_shapes(saved_shapes(recognizer), weights)


def set_weights(recognizer: FaceRecognizer, weights: Mapping[str, Any]) -> None:
    """Copy the arrays with the network's names into it, in its dtype."""
    weights_report.set_weights(
        recognizer, {name: from_saved(recognizer, name, array) for name, array in weights.items()}
    )


def _read_together(name: str) -> tuple[Weights, dict[str, Any]]:
    """Read weights and state dict on every rank; if files differ or are missing, one rank reads for all."""
    file = weights_file(name)
    if distributed.world_size() > 1 and not Path(file).exists() and (file in ZOO or "://" in file):
        hosts = distributed.meeting().hosts
        with distributed.failing_together():  # one rank per machine downloads
            if hosts.index(hosts[distributed.rank()]) == distributed.rank():
                fetch(file)
    digests = distributed.gather_texts(_digest(Path(file))) if distributed.world_size() > 1 else [""]
    if len(set(digests)) == 1:
        weights = read_any(fetch(file))
        return weights, {**weights.state_dict(), **_sharded_head(Path(weights.path))}
    source = next(number for number, digest in enumerate(digests) if digest)
    name = distributed.meeting().name_of(source)
    logger.warning("%s is missing or different on some processes: all use %s's.", file, name)
    content: dict[str, Any] | None = None
    with distributed.failing_together():
        if distributed.rank() == source:
            weights = read_any(file)
            arch = None if weights.arch is None else [weights.arch.name, thaw(weights.arch.kwargs)]
            facts = {"format": weights.format, "source": weights.source, "arch": arch}
            content = {**facts, "state": {**weights.state_dict(), **_sharded_head(Path(file))}}
    shared = distributed.share_tree(whole_arrays(content), source)
    parts: dict[str, dict[str, np.ndarray]] = {"backbone": {}, "head": {}}
    for key, array in shared["state"].items():
        part, _, rest = key.partition(".")
        parts[part][rest] = array
    spec = Spec(*shared["arch"]) if shared["arch"] else None
    return Weights(file, parts["backbone"], parts["head"], shared["format"], shared["source"], spec), shared["state"]


def _other_people(path: str, people: ClassIdentity, dataset: TrainDataset) -> str:
    """Describe which classes of the weights' head are other people than in this training; "" if none or unknown."""
    info = info_beside(path)
    if info is None or info.classes is None or info.classes == people.digest:
        return ""
    states = Path(path).with_suffix(".pdstates")
    saved = safe_pickle.load(states).get("people") if states.is_file() else None
    if saved is None:
        return "by their digest"
    return ClassIdentity(saved["classes"], saved["samples"]).difference(
        people, lambda label: class_name(dataset, label)
    )


def _digest(path: Path) -> str:
    return sha256(path) if path.is_file() else "folder" if path.is_dir() else ""


def load_pretrained(
    recognizer: FaceRecognizer,
    name: str,
    load_head: LoadHead = "auto",
    *,
    config_info: ModelInfo | None = None,
    people: ClassIdentity | None = None,
    dataset: TrainDataset | None = None,
) -> WeightsReport:
    """Load pretrained weights: the whole backbone or nothing; the head according to `load_head`.

    Args:
        name: a file (.pdparams with or without its suffix, .pth, .pt, .ckpt, .safetensors), a model of the zoo, or an
            https URL.
        load_head: True: it must match; "auto": loaded if it matches and its classes are the same people, else
            reinitialised, with a log message; False: never loaded.
        config_info: the config's preprocessing; differences from what the weights are known to need are logged.
        people: identities of this training's classes, those of `dataset`, which has their names.

    Raises:
        ValueError: the weights belong to another backbone, or the head does not match and must.
    """
    weights, state = _read_together(name)
    path = weights.path
    others = ""
    if people and dataset and recognizer.head is not None and load_head is not False:
        # Only a rank with the files beside the weights can decide, and all must do the same.
        with distributed.failing_together():
            own = _other_people(path, people, dataset)
        others = next(filter(None, distributed.gather_texts(own)), "")
    if others and load_head is True:
        raise ValueError(f"{path}: the classes of its head are other identities: {others}. Global.load_head: auto "
                         "would initialise the head from scratch.")  # fmt: skip
    if others and any(name.startswith("head.") for name in state):
        logger.warning("%s: the head is initialised from scratch; its classes are other identities: %s.", path, others)
    if load_head is False or others:
        state = {name: array for name, array in state.items() if not name.startswith("head.")}
    report = match_weights(recognizer, state)
    problems = report.problems("backbone.")
    if problems:
        raise ValueError(
            f"{path} does not fit the backbone of the config: {'; '.join(problems)}. "
            f"{len(report.matched)} tensors matched. Is Arch.Backbone the network of these weights?"
            + (f" By their names, they are {weights.arch.name}'s." if weights.arch else "")
            + report.hint()
        )
    head_problems = report.problems("head.")
    if recognizer.head is not None and head_problems and load_head is not False and not others:
        if load_head is True:
            raise ValueError(
                f"{path} does not fit the head of the config: {'; '.join(head_problems)}. Global.load_head: auto would "
                "initialise the head from scratch."
            )
        logger.warning("%s: the head is not loaded but initialised from scratch (%s).", path, "; ".join(head_problems))
    set_weights(recognizer, {name: state[name] for name in report.matched})
    logger.info("Loaded %d tensors from %s.", len(report.matched), path)
    info = known_info(weights, ZOO.get(name)) if config_info else None
    if info and config_info:
        for line in info.mismatches(config_info):
            logger.warning("%s: %s. Change the config's transform_ops, unless this is intended.", path, line)
    return report
