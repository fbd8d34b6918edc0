"""Checks that need weights: colour order, label noise, overlap of the people of test and training set."""

from collections.abc import Iterator

import numpy as np
import paddle

from ppfacerec.backbones import BACKBONES
from ppfacerec.config import Config
from ppfacerec.core import distributed
from ppfacerec.core.device.inference import InferenceRunner
from ppfacerec.core.device.runtime import choose_device
from ppfacerec.core.log import progress_bar
from ppfacerec.data.datasets.base import Images
from ppfacerec.data.pairs.pair_set import PairSet
from ppfacerec.data.transforms.basic import Pipeline
from ppfacerec.data.transforms.images import resize_short_side
from ppfacerec.data.transforms.network_input import to_network_input
from ppfacerec.datatools.doctor.data_checks import Sample
from ppfacerec.datatools.doctor.findings import Finding, finding
from ppfacerec.inference.image_facts import similar_pairs
from ppfacerec.metrics.pair_embeddings import normalize
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.training.checkpoints.pretrained import load_pretrained

_BATCH = 64
_COLOUR_SAMPLE = 400
_BETTER = 1.02  # ratio of separations above which the other colour order is taken as right
_CLEARLY_NEARER = 0.1  # cosine to another class's centre minus that to the own centre


class Embedder:
    """Embeds images with the network and the weights of a config.

    Raises:
        ValueError: the weights do not fit the network.
    """

    def __init__(self, config: Config) -> None:
        assert config.Global.pretrained_model and config.DataLoader.Train
        choose_device(config.Global.device)
        backbone = BACKBONES.build(config.Arch.Backbone)
        load_pretrained(FaceRecognizer(backbone, None), config.Global.pretrained_model)
        backbone.eval()
        self._runner = InferenceRunner(backbone)
        operations = config.DataLoader.Train.transform_ops
        self._pipeline = Pipeline([spec for spec in operations if not spec.name.startswith("Rand")])

    def __call__(self, images: Images, indices: np.ndarray, what: str, swap_colours: bool = False) -> np.ndarray:
        """Return normalised embeddings (N, D) of the images `indices`."""
        shares = distributed.shares_of_batches(len(indices), _BATCH)
        own = shares[distributed.rank()]
        rows = [np.zeros((0, self._runner.embedding_size), np.float32)]
        with distributed.failing_together():
            for places in progress_bar(own, len(own), what, "batch"):
                batch = [
                    resize_short_side(self._pipeline(images.read(i), images.where(i)), images.where(i))
                    for i in indices[places].tolist()
                ]
                pixels = np.stack(batch)[..., ::-1] if swap_colours else np.stack(batch)
                tensor = paddle.to_tensor(np.ascontiguousarray(pixels))
                rows.append(self._runner(to_network_input(tensor, self._pipeline.normalize)))
        return normalize(distributed.gather_rows(np.concatenate(rows), [sum(map(len, share)) for share in shares]))


class Centres:
    """Class centres of normalised `embeddings` (N, D) with `labels` (N,), and the cosines of each to own and other."""

    def __init__(self, embeddings: np.ndarray, labels: np.ndarray) -> None:
        self.classes, numbers = np.unique(labels, return_inverse=True)
        sums = np.zeros((len(self.classes), embeddings.shape[1]))
        np.add.at(sums, numbers, embeddings)
        self.centres = normalize(sums)
        without = sums[numbers] - embeddings  # sum of the class's other images
        own = (normalize(without) * embeddings).sum(axis=1)
        self.own = np.where(np.bincount(numbers)[numbers] > 1, own, np.nan)
        self.other, self.other_class = np.empty(len(embeddings)), np.empty(len(embeddings), np.int64)
        for begin in range(0, len(embeddings), 1024):
            rows = np.arange(begin, min(begin + 1024, len(embeddings)))
            near = embeddings[rows] @ self.centres.T
            near[np.arange(len(rows)), numbers[rows]] = -np.inf
            self.other_class[rows], self.other[rows] = self.classes[near.argmax(axis=1)], near.max(axis=1)

    def nearest(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the cosine to the nearest centre, and its class."""
        near = embeddings @ self.centres.T
        return near.max(axis=1), self.classes[near.argmax(axis=1)]

    def same_person_from(self) -> float:
        """Return the mean of the strangers' 99.9th and the members' 5th percentile of the cosine to a centre."""
        return float((np.quantile(self.other, 0.999) + np.nanquantile(self.own, 0.05)) / 2)


def check_colours(embedder: Embedder, images: Images, labels: np.ndarray, indices: np.ndarray) -> Finding:
    """Check whether swapping red and blue separates same and different people better."""
    chosen = np.argsort(labels, kind="stable")[:_COLOUR_SAMPLE]  # few people with many images
    apart = [
        _distance(embedder(images, indices[chosen], "Colours", swap_colours=swap), labels[chosen])
        for swap in (False, True)
    ]
    swapped = apart[1] > _BETTER * apart[0]
    return finding(
        "colour order", "error" if swapped else "ok",
        f"Same and different people are {apart[0]:.2f} standard deviations apart as configured, {apart[1]:.2f} with "
        "red and blue swapped" + ("; the weights or the images are BGR: see DecodeImage.to_rgb." if swapped else "."),
    )  # fmt: skip


def _distance(embeddings: np.ndarray, labels: np.ndarray) -> float:
    first, second = np.triu_indices(len(labels), 1)
    cosines = (embeddings @ embeddings.T)[first, second]
    same = labels[first] == labels[second]
    if not same.any() or same.all():
        return 0.0
    return float(
        (cosines[same].mean() - cosines[~same].mean()) / np.sqrt((cosines[same].var() + cosines[~same].var()) / 2)
    )


def check_label_noise(centres: Centres, sample: Sample) -> Finding:
    """Find images clearly nearer to another class's centre than to the centre of their class's other images."""
    nearer = np.nan_to_num(centres.other - centres.own, nan=-2.0)
    suspects = np.flatnonzero(nearer > _CLEARLY_NEARER)
    suspects = suspects[np.argsort(-nearer[suspects])]
    share = len(suspects) / max(1, len(nearer))
    return finding(
        "label noise", "warning" if share > 0.01 else "note" if len(suspects) else "ok",
        f"{len(suspects)} of {len(nearer)} images ({share:.1%}) are nearer to another class than to their own.",
        [f"{sample.where(k)}: cosine {centres.own[k]:.2f} to its class {sample.labels[k]}, {centres.other[k]:.2f} to "
         f"class {centres.other_class[k]}" for k in suspects[:5]],
    )  # fmt: skip


def check_centres(centres: Centres, sample: Sample) -> Finding:
    """Find pairs of classes whose centres are as near as images usually are to their own centre."""
    least = float(np.nanquantile(centres.own, 0.25)) if np.isfinite(centres.own).any() else 1.0
    found = similar_pairs(centres.centres, centres.centres, least, same=True)
    found.sort(key=lambda pair: -float(centres.centres[pair[0]] @ centres.centres[pair[1]]))
    first = {int(label): position for position, label in reversed(list(enumerate(sample.labels)))}

    def shown(row: int) -> str:
        return f"class {centres.classes[row]} ({sample.where(first[int(centres.classes[row])])})"

    return finding(
        "one person, two classes", "warning" if found else "ok",
        f"Pairs of classes with centres as near (cosine {least:.2f}) as images usually are to their own: {len(found)}"
        + ("; one person in two classes, which the head pushes apart." if found else "."),
        [f"{shown(a)} = {shown(b)}: cosine {centres.centres[a] @ centres.centres[b]:.2f}" for a, b in found[:5]],
    )  # fmt: skip


def check_people(
    name: str, pairs: PairSet, embedder: Embedder, centres: Centres, most_images: int
) -> Iterator[Finding]:
    """Find test images that are as near to a training class as its own images."""
    indices = np.unique(np.linspace(0, pairs.num_images - 1, min(most_images, pairs.num_images)).astype(int))
    cosines, classes = centres.nearest(embedder(pairs, indices, name))
    least = centres.same_person_from()
    found = np.flatnonzero(cosines >= least)
    found = found[np.argsort(-cosines[found])]
    share = len(found) / len(indices)
    yield finding(
        f"{name}: overlap (people)", "error" if share > 0.01 else "note" if len(found) else "ok",
        f"{len(found)} of {len(indices)} test images ({share:.1%}) are as near to a training class as its own images "
        f"(cosine {least:.2f})" + (": its people are in the training set." if share > 0.01 else "."),
        [f"{pairs.where(int(indices[k]))}: cosine {cosines[k]:.2f} to class {classes[k]}" for k in found[:5]],
    )  # fmt: skip
