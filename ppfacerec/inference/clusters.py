"""Group images by person: average-linkage clustering of embeddings with scikit-learn."""

import numpy as np

from ppfacerec.core.environment import import_extra
from ppfacerec.inference.face_model import Threshold
from ppfacerec.metrics.pair_embeddings import check_unit_rows

MAX_IMAGES = 20_000  # all pairs are compared: 3.2 GB of distances


def cluster(embeddings: np.ndarray, threshold: float) -> np.ndarray:
    """Return a cluster number for each embedding; larger clusters have lower numbers.

    Two clusters are merged while the mean cosine between their members is above the threshold.

    Args:
        embeddings: (N, D), rows of length 1.
        threshold: cosine.

    Raises:
        ImportError: scikit-learn is missing; the message says how to install it.
        ValueError: more than 20,000 images, a threshold outside the range of cosines, or embeddings not of length 1.
    """
    if len(embeddings) > MAX_IMAGES:
        raise ValueError(f"{len(embeddings)} images are too many to cluster (at most {MAX_IMAGES}).")
    embeddings, threshold = check_unit_rows("embeddings", embeddings), Threshold(threshold).cosine
    if len(embeddings) < 2:
        return np.zeros(len(embeddings), np.int64)
    sklearn = import_extra("sklearn.cluster", "cluster", "Clustering needs scikit-learn")
    model = sklearn.AgglomerativeClustering(
        n_clusters=None, metric="cosine", linkage="average", distance_threshold=1.0 - threshold
    )
    labels = model.fit_predict(embeddings)
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.empty(len(counts), np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return np.asarray(rank[inverse])
