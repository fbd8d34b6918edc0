"""Examine data and config before training."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ppfacerec.config import Config
from ppfacerec.data import EVAL_DATASETS, TRAIN_DATASETS
from ppfacerec.data.datasets.base import FolderDataset, ImageNetDataset, TrainDataset
from ppfacerec.data.datasets.record_dataset import RecordIODataset
from ppfacerec.data.pairs.pair_bin import read_bin
from ppfacerec.data.pairs.pair_set import PairSet
from ppfacerec.datatools.doctor import embedding_checks as by_embeddings
from ppfacerec.datatools.doctor.data_checks import Sample, check_duplicates, check_images, check_labels, check_names
from ppfacerec.datatools.doctor.findings import Finding, finding
from ppfacerec.datatools.doctor.overlap import check_overlap
from ppfacerec.datatools.doctor.run_checks import check_run
from ppfacerec.demo.on_ranks import make_demo_data_on_each_disk
from ppfacerec.inference.image_facts import measure

_NO_WEIGHTS = (
    "Give -o Global.pretrained_model=... to look for label noise, people of the test sets in the training set, and a "
    "wrong colour order."
)


def examine_config(
    config: Config, max_images: int, num_processes: int, tests: Mapping[str, PairSet], world_size: int = 1
) -> Iterator[Finding]:
    """Examine the data and settings of a config; with ``Global.pretrained_model`` embeddings too.

    Args:
        max_images: images to examine, evenly spaced in the training set; for embeddings also in each test set.
        num_processes: processes that examine images.
        tests: further test sets by name.
        world_size: processes that the training will have.
    """
    section = config.DataLoader.Train
    assert section is not None, "checked by load_config"
    make_demo_data_on_each_disk(config.Global.demo_data)
    dataset = TRAIN_DATASETS.build(section.dataset)
    yield from check_run(config, len(dataset), world_size)
    resizes = any(spec.name in ("ResizeImage", "CropImage", "RandCropImage") for spec in section.transform_ops)
    skips = section.loader.on_bad_image == "skip"
    sample = _sample(dataset, max_images, num_processes)
    class_num = config.Arch.Head.kwargs.get("class_num")
    tests = {**_test_sets(config), **tests}
    yield from _examine(sample, tests, num_processes, class_num=class_num, resizes=resizes, skips_bad=skips)
    if config.Global.pretrained_model and sample.facts:
        yield from _examine_embeddings(config, sample, tests, max_images)
    elif tests:
        yield finding("with weights", "note", _NO_WEIGHTS)


def examine_folder(folder: str, max_images: int, num_processes: int, tests: Mapping[str, PairSet]) -> Iterator[Finding]:
    """Examine a folder: with label.txt, with train.rec, or with a folder for each identity."""
    sample = _sample(open_folder(folder), max_images, num_processes)
    yield from _examine(sample, tests, num_processes, class_num=None, resizes=True, skips_bad=False)


def open_folder(folder: str) -> TrainDataset:
    """Return the training set in a folder, or raise a ValueError."""
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"{folder}: expected a folder with label.txt, train.rec, or one subfolder per identity.")
    if (root / "label.txt").is_file():
        return ImageNetDataset(folder, str(root / "label.txt"))
    return RecordIODataset(folder) if (root / "train.rec").is_file() else FolderDataset(folder)


def read_tests(paths: list[str]) -> dict[str, PairSet]:
    """Read the .bin files to compare the training set with."""
    return {Path(path).stem: read_bin(path) for path in paths}  # type: ignore[misc]


def _sample(dataset: TrainDataset, max_images: int, num_processes: int) -> Sample:
    indices = np.unique(np.linspace(0, len(dataset) - 1, min(max_images, len(dataset))).astype(int)).tolist()
    facts = measure(dataset, indices, num_processes, "Training images")
    return Sample(dataset, indices, facts)


def _examine(
    sample: Sample, tests: Mapping[str, PairSet], num_processes: int, *,
    class_num: int | None, resizes: bool, skips_bad: bool,
) -> Iterator[Finding]:  # fmt: skip
    left_out = getattr(sample.dataset, "left_out", "")
    yield finding("images", "note" if left_out or sample.total < len(sample.dataset) else "ok",
                  f"{sample.total} of {len(sample.dataset)} were examined (--max-images).",
                  [f"left out: {left_out}"] * bool(left_out))  # fmt: skip
    yield from check_labels(sample.dataset, class_num)
    yield from check_names(sample.dataset)
    yield from check_images(sample, resizes, skips_bad)
    yield from check_duplicates(sample)
    for name, pairs in tests.items():
        yield from check_overlap(name, pairs, sample, num_processes)


def _examine_embeddings(
    config: Config, sample: Sample, tests: Mapping[str, PairSet], max_images: int
) -> Iterator[Finding]:
    embedder, indices = by_embeddings.Embedder(config), np.array(sample.indices)
    yield by_embeddings.check_colours(embedder, sample.dataset, sample.labels, indices)
    centres = by_embeddings.Centres(embedder(sample.dataset, indices, "Embeddings"), sample.labels)
    yield by_embeddings.check_label_noise(centres, sample)
    yield by_embeddings.check_centres(centres, sample)
    for name, pairs in tests.items():
        yield from by_embeddings.check_people(name, pairs, embedder, centres, max_images)


def _test_sets(config: Config) -> dict[str, PairSet]:
    section = config.DataLoader.Eval
    if section is None or not config.Global.eval_during_train:
        return {}
    dataset = EVAL_DATASETS.build(section.dataset)
    return {name: dataset.open(name) for name in dataset.names}
