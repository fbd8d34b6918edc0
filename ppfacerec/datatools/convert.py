"""Conversion of training and evaluation data between formats; encoded images are copied byte for byte.

Only HEIC, which other programs do not read in a .rec, becomes PNG there. (Scripts such as AdaFace's decode a .rec and
save its images again as JPEG, with further loss.)
"""

from collections.abc import Container
from pathlib import Path

import numpy as np

from ppfacerec.core.io.atomic_file import atomic_write_text, atomic_write_unsynced
from ppfacerec.core.io.user_files import read_regular, walk_images
from ppfacerec.core.log import progress_bar
from ppfacerec.data.datasets.base import ImageNetDataset, TrainDataset, open_folder
from ppfacerec.data.datasets.record_dataset import RecordIODataset
from ppfacerec.data.pairs.pair_bin import read_bin
from ppfacerec.data.transforms.images import SIGNATURES, portable
from ppfacerec.datatools.record_writer import write_records


def convert(source: str, target: str, image_root: str = "") -> list[Path]:
    """Convert a folder, .txt, .rec or .bin to a folder, .txt or .rec, as the names specify; return the files.

    Args:
        source: a folder with a folder for each identity; a label file; a .rec file; a .bin file.
        target: ``x.txt`` (from a folder), ``x.rec`` (from a folder or label file), else a folder (from .rec or .bin).
        image_root: folder that the paths of a label file are relative to; "": the file's own folder.

    Raises:
        ValueError: the source is missing or damaged, or the pair of formats is not supported.
    """
    if not Path(source).exists():
        raise ValueError(f"{source} does not exist.")
    kinds = ("folder" if Path(source).is_dir() else Path(source).suffix, Path(target).suffix)
    if kinds == (".rec", ""):
        return record_to_folder(source, target)
    if kinds == (".bin", ""):
        return bin_to_folder(source, target)
    if kinds == ("folder", ".txt"):
        return folder_to_label_file(source, target)
    if kinds in (("folder", ".rec"), (".txt", ".rec")):
        root = image_root or str(Path(source).parent)
        dataset = open_folder(source) if kinds[0] == "folder" else ImageNetDataset(root, source)
        return dataset_to_record(dataset, target)
    raise ValueError(
        f"Cannot convert {source} to {target}. Supported: x.rec to a folder, x.bin to a folder, a folder of "
        "identities to x.txt or x.rec, a label file x.txt to x.rec."
    )


def record_to_folder(source: str, target: str) -> list[Path]:
    """Write each image of a .rec to ``images/<label>/<number>.jpg``, unless it is there already, then label.txt."""
    dataset = RecordIODataset(str(Path(source).parent), Path(source).stem)
    folder, label_file = Path(target), Path(target) / "label.txt"
    lines = []
    for index in progress_bar(range(len(dataset)), len(dataset), "Images", "image"):
        image = dataset.read(index)
        name = f"images/{dataset.labels[index]:06d}/{index:08d}{_suffix(image, dataset.where(index))}"
        _write_once(folder / name, image)
        lines.append(f"{name}\t{dataset.labels[index]}\n")
    with atomic_write_text(label_file) as file:
        file.writelines(lines)
    return [label_file]


def bin_to_folder(source: str, target: str) -> list[Path]:
    """Write the distinct images of a .bin to ``images/``, and pairs.txt with lines ``left right 0|1``."""
    pairs = read_bin(source)
    folder = Path(target)
    names = [f"images/{i:06d}{_suffix(image, pairs.where(i))}" for i, image in enumerate(pairs.images)]
    _check_target_folder(folder, set(names))
    for name, image in progress_bar(zip(names, pairs.images), len(names), "Images", "image"):
        _write_once(folder / name, image)
    with atomic_write_text(folder / "pairs.txt") as file:
        for (left, right), same in zip(pairs.index.reshape(-1, 2), pairs.is_same):
            file.write(f"{names[left]}\t{names[right]}\t{int(same)}\n")
    return [folder / "pairs.txt"]


def folder_to_label_file(source: str, target: str) -> list[Path]:
    """Write a label file for a folder of identities, and beside it their names in lines ``class<TAB>folder``."""
    dataset = open_folder(source)
    names_file = Path(target).with_name(f"{Path(target).stem}_identities.txt")
    for index in range(len(dataset)):
        if any(character in dataset.name(index) for character in "\t\r\n"):
            raise ValueError(f"{dataset.where(index)}: a label file cannot hold a name with a tab or line break.")
        if any("\ud800" <= character <= "\udfff" for character in dataset.name(index)):
            raise ValueError(f"{dataset.where(index)}: a label file cannot hold a name that is not UTF-8.")
    with atomic_write_text(Path(target)) as file:
        file.writelines(f"{dataset.name(i)}\t{dataset.labels[i]}\n" for i in range(len(dataset)))
    with atomic_write_text(names_file) as file:
        file.writelines(f"{label}\t{name}\n" for label, name in enumerate(dataset.identities))
    return [Path(target), names_file]


def dataset_to_record(dataset: TrainDataset, target: str) -> list[Path]:
    """Write a training set as .rec, .idx and property, with the images sorted by label."""
    path = Path(target)
    order = np.argsort(dataset.labels, kind="stable").tolist()
    indices = progress_bar(order, len(order), "Images", "image")
    write_records(path, ((int(dataset.labels[i]), portable(dataset.read(i), dataset.where(i))) for i in indices))
    return [path, path.with_suffix(".idx"), path.parent / "property"]


def _suffix(image: bytes, where: str) -> str:
    for start, suffix in SIGNATURES.items():
        if image.startswith(start):
            return suffix
    raise ValueError(f"{where}: {len(image)} bytes that start with {image[:8]!r} are not a JPEG, PNG, BMP or WebP.")


def _write_once(path: Path, content: bytes) -> None:
    """Write a file unless an interrupted conversion has written it with these bytes."""
    if not path.is_file() or read_regular(path) != content:
        atomic_write_unsynced(path, content)


def _check_target_folder(folder: Path, names: Container[str]) -> None:
    """Reject a folder with images of another conversion, which would be mistaken for this one's."""
    there = walk_images(folder / "images").images if (folder / "images").is_dir() else []
    strangers = [name for name in there if f"images/{name}" not in names]
    if strangers:
        raise ValueError(
            f"{folder} holds {len(strangers)} images of another conversion, first: images/{strangers[0]}. Convert into "
            "a new folder, or remove them."
        )
