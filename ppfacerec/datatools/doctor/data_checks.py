"""Checks of the training images and labels."""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from ppfacerec.core.image_size import IMAGE_SIZE
from ppfacerec.data.datasets.base import TrainDataset
from ppfacerec.datatools.doctor.findings import Finding, finding
from ppfacerec.inference.image_facts import MANY_UNALIGNED, ImageFacts, similar_pairs

NEARLY_EQUAL = 0.997  # correlation of thumbnails; higher for re-encoded images, lower for other photos of a person


class Sample:
    """The examined images: ``facts[k]`` belongs to sample ``indices[k]`` of the data set."""

    def __init__(self, dataset: TrainDataset, indices: Sequence[int], facts: Sequence[ImageFacts]) -> None:
        self.dataset = dataset
        self.total = len(indices)
        self.bad = [fact for fact in facts if fact.problem]
        good = [(index, fact) for index, fact in zip(indices, facts) if not fact.problem]
        self.indices, self.facts = [index for index, _ in good], [fact for _, fact in good]
        self.labels = dataset.labels[self.indices]

    def where(self, position: int) -> str:
        return self.dataset.where(self.indices[position])

    @property
    def thumbnails(self) -> np.ndarray:
        return np.stack([fact.thumbnail for fact in self.facts])


def check_labels(dataset: TrainDataset, class_num: int | None) -> Iterator[Finding]:
    """Check the number of classes, gaps, and people with a single image, by the labels of the whole set."""
    classes, counts = np.unique(dataset.labels, return_counts=True)  # no array over all labels: one may be two billion
    num_missing, single = dataset.num_classes - len(classes), classes[counts == 1]
    if len(classes) < 2:
        yield finding("classes", "error", "All images are of one class: there is nothing to distinguish.")
    if class_num is None or class_num == dataset.num_classes:
        yield finding("class_num", "ok", f"{dataset.num_classes} classes, {len(dataset)} images.")
    else:
        yield finding(
            "class_num", "warning" if class_num > dataset.num_classes else "error",
            f"Arch.Head.class_num is {class_num}, the data has {dataset.num_classes}; leave it out to take the data's.",
        )  # fmt: skip
    if num_missing:
        first = np.setdiff1d(np.arange(min(dataset.num_classes, len(classes) + 5)), classes)[:5]
        yield finding(
            "label gaps", "warning",
            f"{num_missing} of the classes 0 to {dataset.num_classes - 1} have no image; relabel: True closes them.",
            [f"class {k}" for k in first],
        )  # fmt: skip
    else:
        yield finding("label gaps", "ok", "Every class has an image.")
    share = len(single) / dataset.num_classes
    yield finding(
        "single images", "warning" if share > 0.05 else "note" if len(single) else "ok",
        f"{len(single)} of {dataset.num_classes} classes have one image"
        + ("; they contribute little." if len(single) else "."),
        [f"class {k}" for k in single[:5]],
    )  # fmt: skip


def check_names(dataset: TrainDataset) -> Iterator[Finding]:
    """Find people in two classes by folders of one name, mostly in parts of a ConcatDataset."""
    names = getattr(dataset, "identities", None)
    if names is None:
        return
    classes: dict[str, list[int]] = {}
    for label, name in enumerate(names):
        classes.setdefault(re.sub(r"[\W_]+", " ", name.lower()).strip(), []).append(label)
    # Names that are numbers identify nobody: every data set counts from 0.
    twice = [labels for name, labels in classes.items() if name and not name.isdigit() and len(labels) > 1]
    yield finding(
        "one person, two classes (names)", "warning" if twice else "ok",
        f"People with several folders, each its own class: {len(twice)}" + ("; join the folders." if twice else "."),
        [" = ".join(f"class {label} ({names[label]})" for label in labels) for labels in twice[:5]],
    )  # fmt: skip


def plain_name(name: str) -> str:
    """Return a person's name without case and punctuation."""
    return re.sub(r"[\W_]+", "", name.lower())


def check_images(sample: Sample, resizes: bool, skips_bad: bool) -> Iterator[Finding]:
    """Check each image by itself."""
    yield finding(
        "unreadable", "ok" if not sample.bad else "warning" if skips_bad else "error",
        f"{len(sample.bad)} of {sample.total} images cannot be used"
        + ("; DataLoader.Train.loader.on_bad_image: skip replaces them." if sample.bad and not skips_bad else "."),
        [fact.problem for fact in sample.bad],
    )  # fmt: skip
    if not sample.facts:
        return
    other = [k for k, fact in enumerate(sample.facts) if fact.size != (IMAGE_SIZE, IMAGE_SIZE)]
    yield finding(
        "size", "ok" if not other else "warning" if resizes else "error",
        f"{len(other)} of {len(sample.facts)} images are not 112 x 112" + ("; align them first." if other else "."),
        [f"{sample.where(k)}: {sample.facts[k].size[0]} x {sample.facts[k].size[1]}" for k in other[:5]],
    )  # fmt: skip
    grey = [k for k, fact in enumerate(sample.facts) if fact.is_grey]
    yield finding(
        "grey", "note" if grey else "ok",
        f"{len(grey)} of {len(sample.facts)} images have no colour.", [sample.where(k) for k in grey[:5]],
    )  # fmt: skip
    yield _alignment(sample)


def _alignment(sample: Sample) -> Finding:
    """Check that eye positions are darker than their surroundings, as in aligned faces."""
    contrast = np.array([fact.eye_contrast for fact in sample.facts])
    share = float((contrast <= 0).mean())
    text = f"In {share:.0%} of the images the eye positions are not darker than their surroundings"
    if share <= MANY_UNALIGNED:
        return finding("alignment", "ok", f"{text}; aligned faces look like that.")
    return finding(
        "alignment",
        "warning",
        f"{text} (aligned: below {MANY_UNALIGNED:.0%}). See `ppfacerec show-batch` and `ppfacerec align`.",
        [sample.where(int(k)) for k in np.argsort(contrast)[:5]],
    )


def check_duplicates(sample: Sample) -> Iterator[Finding]:
    """Find equal files and nearly equal images; if they are in two classes, one of the labels is wrong."""
    digest, first = [fact.digest for fact in sample.facts], dict[bytes, int]()
    exact = [(first.setdefault(one, k), k) for k, one in enumerate(digest)]
    yield _duplicates("duplicates (bytes)", sample, sorted((a, b) for a, b in exact if a != b))
    if sample.facts:
        near = similar_pairs(sample.thumbnails, sample.thumbnails, NEARLY_EQUAL, same=True)
        yield _duplicates("duplicates (picture)", sample, [(a, b) for a, b in near if digest[a] != digest[b]])


def _duplicates(check: str, sample: Sample, pairs: Sequence[tuple[int, int]]) -> Finding:
    across = [(a, b) for a, b in pairs if sample.labels[a] != sample.labels[b]]
    shown = [f"{sample.where(a)} = {sample.where(b)}" for a, b in list(dict.fromkeys([*across, *pairs]))[:5]]
    return finding(
        check, "warning" if pairs else "ok",
        f"Pairs: {len(pairs)}, under two classes: {len(across)}" + ("; a label is wrong." if across else "."),
        shown,
    )  # fmt: skip
