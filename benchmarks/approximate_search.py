"""Is approximate search worth it? Exact search in NumPy against faiss's graph: building, a search, people found.

python benchmarks/approximate_search.py --people 50000 --images-each 4 --size 512

The embeddings are drawn: a direction for each person, and images around it as near as those of a good network.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from ppfacerec.core.log import table
from ppfacerec.inference.approximate import ApproximatePeople
from ppfacerec.inference.people_index import PeopleIndex

_COSINE = 0.6  # of two images of a person


def draw(people: int, images_each: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Enrolled images (people * images_each, size), and another image of some of the people (200, size)."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(people, size)).astype(np.float32) / np.sqrt(size)
    spread = np.sqrt(1 / _COSINE - 1) / np.sqrt(size)

    def photos(of: np.ndarray) -> np.ndarray:
        images = of + spread * rng.normal(size=of.shape).astype(np.float32)
        return images / np.linalg.norm(images, axis=1, keepdims=True)

    return photos(centres.repeat(images_each, 0)), photos(centres[rng.choice(people, 200)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=50_000)
    parser.add_argument("--images-each", type=int, default=4)
    parser.add_argument("--size", type=int, default=512)
    arguments = parser.parse_args()
    enrolled, photos = draw(arguments.people, arguments.images_each, arguments.size)
    names = np.arange(arguments.people).repeat(arguments.images_each).astype(str).tolist()
    index = PeopleIndex(enrolled, names, names, enrolled[0], "drawn", nearest_others=np.zeros(0, np.float32))
    start = time.process_time()
    graph = ApproximatePeople(index)
    build = time.process_time() - start
    found, seconds = {}, {}
    for way, people in (("exact", index), ("approximate", graph)):
        start = time.process_time()
        found[way] = [[match.name for match in people.search(photo, 5)] for photo in photos]
        seconds[way] = (time.process_time() - start) / len(photos)
    pairs = list(zip(found["exact"], found["approximate"]))
    first = float(np.mean([exact[0] in near[:1] for exact, near in pairs]))
    five = float(np.mean([len(set(exact) & set(near)) / len(exact) for exact, near in pairs]))
    milliseconds = {way: f"{1000 * seconds[way]:.2f} ms" for way in seconds}
    rows = [
        ["exact", "-", milliseconds["exact"], "100 %", "100 %"],
        ["approximate", f"{build:.0f} s", milliseconds["approximate"], f"{first:.1%}", f"{five:.1%}"],
    ]
    size = f"{len(enrolled):,} x {arguments.size}"
    print(table([size, "building", "a search", "nearest found", "5 nearest found"], rows))
    print(f"\nCPU time; a search is {seconds['exact'] / seconds['approximate']:.0f} times as fast")


if __name__ == "__main__":
    main()
