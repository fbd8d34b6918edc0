"""Approximate search among very many people, with faiss (the extra [ann])."""

import numpy as np

from ppfacerec.core.environment import import_extra
from ppfacerec.core.ranges import require_count
from ppfacerec.inference.people_index import Match, PeopleIndex

_NEIGHBOURS = 32  # per image in the graph
_BUILD_EFFORT, _SEARCH_EFFORT = 80, 128  # candidates kept while building and searching the graph
_MEASURED = 200  # images that the recall is measured on


class ApproximatePeople:
    """Search in a graph over the images of an index, from neighbour to neighbour (HNSW).

    Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using hierarchical navigable small
    world graphs, arXiv:1603.09320. The graph is built in memory and not saved: faiss's files are not safe to read from
    untrusted sources. Candidates are compared exactly with the index.

    Raises:
        ImportError: faiss is not installed.
    """

    def __init__(self, index: PeopleIndex) -> None:
        faiss = import_extra("faiss", "ann", "Approximate search needs faiss")
        self._index = index
        self._graph = faiss.IndexHNSWFlat(index.embeddings.shape[1], _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        self._graph.hnsw.efConstruction, self._graph.hnsw.efSearch = _BUILD_EFFORT, _SEARCH_EFFORT
        self._graph.add(index.embeddings)

    def search(self, embedding: np.ndarray, top: int = 5) -> list[Match]:
        """Like `PeopleIndex.search`, with exact cosines; may miss people and return fewer than `top`."""
        probe = self._index.check_probe(embedding)
        count = min(max(_SEARCH_EFFORT, require_count("top", top)), len(self._index))
        rows = self._graph.search(probe[None], count)[1][0]
        return self._index.search_among(rows[rows >= 0], embedding, top)

    def recall(self, top: int = 5) -> float:
        """Measure the share of exact search's `top` people that it finds, on up to 200 of the images."""
        count = len(self._index)
        chosen = np.random.default_rng(0).choice(count, min(count, _MEASURED), replace=False)
        shares = []
        for row in chosen:
            photo = self._index.embeddings[row]
            exact, found = ({match.name for match in way.search(photo, top)} for way in (self._index, self))
            shares.append(len(exact & found) / len(exact))
        return float(np.mean(shares))
