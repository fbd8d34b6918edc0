"""Numbers that tell how a training is doing."""

from __future__ import annotations

import numpy as np
import paddle

from ppfacerec.recognizer import FaceRecognizer


def norms_of(recognizer: FaceRecognizer, embedding: paddle.Tensor) -> str:
    """In words: the range of the embeddings' norms, the largest trained weight, and the parameters not finite."""
    norms = np.linalg.norm(embedding.detach().astype("float32").numpy(), axis=1)
    trained = [p.detach() for p in recognizer.parameters() if not p.stop_gradient]
    largest = max(float(p.abs().max().item()) for p in trained)
    bad = [name for name, p in recognizer.named_parameters() if not paddle.isfinite(p).all().item()]
    return (
        f"embedding norms {norms.min():.3g} to {norms.max():.3g}, largest weight {largest:.3g}, "
        f"{len(bad)} parameters not finite{' (' + bad[0] + ', ...)' if bad else ''}"
    )
