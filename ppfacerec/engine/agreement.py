"""Checks before the first step that all ranks have the same program, config and data."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import paddle

from ppfacerec.config import Config, ConfigError, config_beside, parse_yaml
from ppfacerec.core import distributed
from ppfacerec.core.version import __version__
from ppfacerec.data.datasets.base import TrainDataset
from ppfacerec.data.datasets.class_identity import ClassIdentity
from ppfacerec.training.checkpoints.run_facts import flat

# Paths and numbers of workers may differ between machines.
_PATHS = (
    "output_dir", "checkpoints", "pretrained_model", "image_root", "root", "cls_label_path", "val_data_path",
    "dataset_root", "pair_label_path", "pairs_path", "save_inference_dir",
)  # fmt: skip
_OF_A_MACHINE = ("num_workers", "prefetch_factor", "persistent_workers")
_ABSENT = "not set"


def find_config_beside(overrides: Sequence[str]) -> Path | Mapping[str, Any]:
    """Return the config beside the weights of ``Global.pretrained_model``, if necessary that of another rank.

    All ranks call it; it needs no process group.

    Raises:
        ConfigError: no rank has one.
    """
    if distributed.world_size() == 1:
        return config_beside(overrides)
    own = ""
    with suppress(ConfigError):
        own = config_beside(overrides).read_text(errors="replace")
    found = distributed.meeting().gather(own)
    if own or not any(found):
        return config_beside(overrides)
    tree: dict[str, Any] = parse_yaml(next(filter(None, found)), "the config beside the weights")[0]
    return tree


def check_same_config(config: Config) -> None:
    """Check that program, Paddle and resolved config agree. All ranks call it."""
    facts = {"ppfacerec": __version__, "Paddle": paddle.__version__, **dict(_shared(config.to_tree()))}
    check_same(facts, "The processes were started with different configs or programs")


def _shared(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in flat(tree):
        last = key.rpartition(".")[2]
        if last in _PATHS:
            yield key, "set" if value is not None else _ABSENT
        elif last not in _OF_A_MACHINE:
            yield key, value


def check_same_data(config: Config, dataset: TrainDataset, people: ClassIdentity) -> None:
    """Check that the training data agree. All ranks call it."""
    facts = {
        "the number of images": len(dataset), "the number of classes": dataset.num_classes,
        "the classes' identities (digest)": people.digest[:12], "the sample order (digest)": people.samples[:12],
    }  # fmt: skip
    assert config.DataLoader.Train is not None, "checked by load_config"
    kwargs = config.DataLoader.Train.dataset.kwargs
    read = ", ".join(f"{key}: {kwargs[key]}" for key in _PATHS if key in kwargs)
    check_same(facts, f"The processes have different training data (here {read})")


def check_same(facts: Mapping[str, Any], what: str) -> None:
    """Compare values by name over the ranks.

    Raises:
        ValueError: on every rank, with `what` and, for each name that differs, the value of every rank.
    """
    if distributed.world_size() == 1:
        return
    texts = distributed.gather_texts(json.dumps(facts, default=str, sort_keys=True))
    found = [json.loads(text) for text in texts]
    lines = []
    for name in dict.fromkeys(name for one in found for name in one):
        values: dict[str, list[int]] = {}
        for number, one in enumerate(found):
            values.setdefault(str(one.get(name, _ABSENT)), []).append(number)
        if len(values) > 1:
            lines.append(f"{name} is " + ", ".join(f"{value} on {_names(ranks)}" for value, ranks in values.items()))
    if lines:
        raise ValueError(f"{what}: {'; '.join(lines)}. Start all processes with the same.")


def _names(ranks: list[int]) -> str:
    return " and ".join(distributed.meeting().name_of(number) for number in ranks)
