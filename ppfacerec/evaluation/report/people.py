"""A selection of a verification set for display: a few people, several images of each."""

from dataclasses import dataclass

import numpy as np

from ppfacerec.data.pairs.pair_set import PairSet

MOST_FACES, MOST_OF_ONE = 200, 10


@dataclass(frozen=True)
class Person:
    name: str
    images: list[int]  # distinct images of the set


def people_of(pairs: PairSet, most_faces: int = MOST_FACES, most_of_one: int = MOST_OF_ONE) -> list[Person]:
    """Return the people with the most images, in descending order.

    Without names (`.bin`), images connected by same pairs are one numbered person; one in two unconnected pairs is two.
    """
    who = _joined(pairs) if pairs.identities is None else pairs.identities
    images: dict[object, list[int]] = {}
    for image, identity in enumerate(who):
        images.setdefault(identity, []).append(image)
    people, num_faces = [], 0
    for number, identity in enumerate(sorted(images, key=lambda one: -len(images[one])), 1):
        chosen = images[identity][: min(most_of_one, most_faces - num_faces)]
        if not chosen:
            break
        num_faces += len(chosen)
        people.append(Person(f"person {number}" if pairs.identities is None else str(identity), chosen))
    return people


def _joined(pairs: PairSet) -> np.ndarray:
    """Return for each image (M,) the lowest image that is connected with it by same pairs."""
    first = np.arange(pairs.num_images)
    ends = pairs.index.reshape(-1, 2)[np.asarray(pairs.is_same)]
    while True:
        lowest = first[ends].min(axis=1)
        joined = first.copy()
        np.minimum.at(joined, ends[:, 0], lowest)
        np.minimum.at(joined, ends[:, 1], lowest)
        if np.array_equal(joined, first):
            return first
        first = joined
