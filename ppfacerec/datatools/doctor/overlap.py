"""Overlap of a test set with the training set: by bytes, by image, by name."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ppfacerec.data.pairs.pair_set import PairSet
from ppfacerec.datatools.doctor.data_checks import NEARLY_EQUAL, Sample, plain_name
from ppfacerec.datatools.doctor.findings import Finding, finding
from ppfacerec.inference.image_facts import measure, similar_pairs


def check_overlap(name: str, pairs: PairSet, sample: Sample, num_processes: int) -> Iterator[Finding]:
    """Compare the distinct images of a test set with the examined training images."""
    facts = measure(pairs, range(pairs.num_images), num_processes, name)
    good = [k for k, fact in enumerate(facts) if not fact.problem]
    bad = [fact.problem for fact in facts if fact.problem]
    yield finding(
        f"{name}: unreadable", "error" if bad else "ok", f"{len(bad)} of {len(facts)} test images do not decode.", bad
    )
    is_whole = sample.total == len(sample.dataset)
    of = "" if is_whole else f" (of {len(sample.facts)} training images that were examined)"

    def overlap(kind: str, what: str, found: Sequence[tuple[int, int]]) -> Finding:
        return finding(
            f"{name}: overlap ({kind})", "error" if found else "ok",
            f"{len(found)} of {pairs.num_images} test images {what} as a training image{of}"
            + (": the accuracy on this set says nothing about new people." if found else "."),
            [f"{pairs.where(a)} = {sample.where(b)}" for a, b in found[:5]],
        )  # fmt: skip

    digests = {fact.digest: k for k, fact in enumerate(sample.facts)}
    equal = [(k, digests[facts[k].digest]) for k in good if facts[k].digest in digests]
    yield overlap("bytes", "have the same bytes", equal)
    if good and sample.facts:
        near = similar_pairs(np.stack([facts[k].thumbnail for k in good]), sample.thumbnails, NEARLY_EQUAL)
        once = {good[a]: b for a, b in near}
        yield overlap("picture", "are nearly the same picture", sorted(once.items()))
    if pairs.identities is not None:
        yield _by_name(name, pairs.identities, sample)


def _by_name(name: str, identities: Sequence[str], sample: Sample) -> Finding:
    """Compare names without case and punctuation; names of digits alone identify nobody across data sets."""
    train = {
        plain_name(Path(sample.where(k)).parent.name.split("(")[-1]): sample.where(k) for k in range(len(sample.facts))
    }
    common = sorted({who for who in identities if plain_name(who) in train and not plain_name(who).isdigit()})
    return finding(
        f"{name}: overlap (names)", "error" if common else "ok",
        f"People of the test set with the name of a training folder: {len(common)}.", common,
    )  # fmt: skip
