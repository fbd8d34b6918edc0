"""The training sets by the names that the YAML gives them, and several of them joined to one."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ppfacerec.core.registry import Registry, Spec
from ppfacerec.data.datasets.base import (
    FolderDataset,
    ImageNetDataset,
    TrainDataset,
    check_class_num,
    class_identity_of,
)
from ppfacerec.data.datasets.class_identity import ClassIdentity
from ppfacerec.data.datasets.record_dataset import RecordIODataset
from ppfacerec.data.datasets.synthetic_dataset import SyntheticDataset

TRAIN_DATASETS = Registry("training data set", ImageNetDataset, FolderDataset, RecordIODataset, SyntheticDataset)


@TRAIN_DATASETS.register
class ConcatDataset:
    """Several sets one after the other, of different people: each one's labels start where those before it end.

    Args:
        datasets: ``{name: ImageNetDataset, image_root: ..., ...}`` each.
        class_num: of all together; None takes what there is.

    Attributes:
        identities: name of each class, "" where its set has no names.

    Raises:
        ValueError: no set, or more classes than `class_num`.
    """

    @staticmethod
    def parts(arguments: Mapping[str, Any], path: str) -> list[Spec]:
        """The sets in it, for the config's check; none where it is not a list of mappings."""
        found: Any = arguments.get("datasets")
        is_sound = isinstance(found, tuple) and all(isinstance(one, Mapping) for one in found)
        return nested_specs(found, f"{path}.datasets") if is_sound else []

    def __init__(self, datasets: Sequence[Mapping[str, Any]], class_num: int | None = None) -> None:
        if not datasets:
            raise ValueError("datasets: expected at least one data set.")
        self._datasets: list[TrainDataset] = [TRAIN_DATASETS.build(spec) for spec in nested_specs(datasets)]
        sizes = [len(dataset) for dataset in self._datasets]
        classes = [dataset.num_classes for dataset in self._datasets]
        self._ends = np.cumsum(sizes)
        first_labels = np.cumsum([0, *classes[:-1]])
        self.labels = np.concatenate([d.labels + np.int32(first) for d, first in zip(self._datasets, first_labels)])
        self.num_classes = sum(classes)
        self.left_out = "; ".join(filter(None, (getattr(dataset, "left_out", "") for dataset in self._datasets)))
        parts = [getattr(d, "identities", None) or [""] * d.num_classes for d in self._datasets]
        self.identities = [name for part in parts for name in part]
        check_class_num(self.num_classes, class_num, "ConcatDataset")

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> bytes:
        dataset, own = self._find(index)
        return dataset.read(own)

    def where(self, index: int) -> str:
        dataset, own = self._find(index)
        return dataset.where(own)

    def class_identity(self) -> ClassIdentity:
        """Identity of the classes, as given by each set."""
        parts = [class_identity_of(dataset) for dataset in self._datasets]
        samples = hashlib.sha256("".join(part.samples for part in parts).encode()).hexdigest()
        return ClassIdentity(np.concatenate([part.classes for part in parts]), samples)

    def _find(self, index: int) -> tuple[TrainDataset, int]:
        number = int(np.searchsorted(self._ends, index, "right"))
        return self._datasets[number], index - int(self._ends[number - 1] if number else 0)


def source_of(spec: Spec) -> str:
    """The source of a training set by its config, without reading it; for the info of a model."""
    if "datasets" in spec.kwargs:
        return "; ".join(map(source_of, nested_specs(spec.kwargs["datasets"])))
    if "cls_label_path" in spec.kwargs:
        return str(spec.kwargs["cls_label_path"])
    arguments = ", ".join(f"{name}: {value}" for name, value in spec.kwargs.items())
    return f"{spec.name} ({arguments})" if arguments else spec.name


def nested_specs(datasets: Sequence[Mapping[str, Any]], path: str = "") -> list[Spec]:
    """The sets of a ConcatDataset as components; `path` is where they stand in the YAML."""
    return [
        Spec(str(entry.get("name")), {k: v for k, v in entry.items() if k != "name"}, f"{path}.{i}")
        for i, entry in enumerate(datasets)
    ]
