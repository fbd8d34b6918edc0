"""Registry of the training sets, and the concatenation of several."""

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
    """Concatenation of sets of different people; the labels of each start after those of the previous one.

    Args:
        datasets: a list of ``{name: ImageNetDataset, image_root: ..., ...}``.
        class_num: upper limit of the number of classes of all sets together; None: no limit.

    Attributes:
        identities: name of each class, "" if its set has no names.

    Raises:
        ValueError: no set, or more classes than `class_num`.
    """

    @staticmethod
    def parts(arguments: Mapping[str, Any], path: str) -> list[Spec]:
        """Return the nested sets for the config check; none if `datasets` is not a list of mappings."""
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
        """Return the identity of the classes, as given by each set."""
        parts = [class_identity_of(dataset) for dataset in self._datasets]
        samples = hashlib.sha256("".join(part.samples for part in parts).encode()).hexdigest()
        return ClassIdentity(np.concatenate([part.classes for part in parts]), samples)

    def _find(self, index: int) -> tuple[TrainDataset, int]:
        number = int(np.searchsorted(self._ends, index, "right"))
        return self._datasets[number], index - int(self._ends[number - 1] if number else 0)


def source_of(spec: Spec) -> str:
    """Describe the source of a training set for the model info, from its config alone."""
    if "datasets" in spec.kwargs:
        return "; ".join(map(source_of, nested_specs(spec.kwargs["datasets"])))
    if "cls_label_path" in spec.kwargs:
        return str(spec.kwargs["cls_label_path"])
    arguments = ", ".join(f"{name}: {value}" for name, value in spec.kwargs.items())
    return f"{spec.name} ({arguments})" if arguments else spec.name


def nested_specs(datasets: Sequence[Mapping[str, Any]], path: str = "") -> list[Spec]:
    """Return the sets of a ConcatDataset as components; `path` is their path in the YAML."""
    return [
        Spec(str(entry.get("name")), {k: v for k, v in entry.items() if k != "name"}, f"{path}.{i}")
        for i, entry in enumerate(datasets)
    ]
