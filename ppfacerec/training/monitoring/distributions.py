"""Data of a training's histograms: weights, gradients, cosines, norms."""

import numpy as np
import paddle

from ppfacerec.data.loading.loader import Batch
from ppfacerec.heads import HeadTraits
from ppfacerec.recognizer import HEAD_ACTIVE_ROWS, HEAD_WEIGHT, FaceRecognizer

MOST_VALUES = 100_000  # per tensor
MOST_CENTRES = 1000  # of a head, compared with a batch


def watched_parameters(recognizer: FaceRecognizer) -> dict[str, paddle.Tensor]:
    """Return by name the first, middle and last non-vector weight of the backbone, and the head's."""
    backbone = [(f"backbone.{n}", p) for n, p in recognizer.backbone.named_parameters()]
    backbone = [(name, p) for name, p in backbone if not p.stop_gradient and p.ndim > 1]
    chosen = [backbone[i] for i in sorted({0, len(backbone) // 2, len(backbone) - 1})] if backbone else []
    head = [(n, p) for n, p in recognizer.named_parameters() if n in (HEAD_WEIGHT, HEAD_ACTIVE_ROWS)]
    return dict([*chosen, *head])


def some_values(tensor: paddle.Tensor) -> np.ndarray:
    """Return evenly spaced rows of a tensor, flat."""
    rows = tensor.shape[0]
    stride = -(-tensor.size // MOST_VALUES)
    return tensor.detach()[:: min(stride, rows)].astype("float32").numpy().ravel()


def head_statistics(head: HeadTraits, batch: Batch, embedding: paddle.Tensor) -> dict[str, np.ndarray]:
    """Return the embeddings' norms, and their cosines to the own and other centres among this rank's classes."""
    rows = embedding.detach().astype("float32").numpy()  # (N, D)
    statistics = {"head/embedding_norms": np.linalg.norm(rows, axis=1)}
    cosines = head.centre_cosines(rows, batch.labels.numpy(), MOST_CENTRES)
    if cosines is not None:
        statistics["head/target_cosines"], statistics["head/other_cosines"] = cosines
    return statistics
