"""The metric by the name that the YAML gives it."""

from __future__ import annotations

import numpy as np

from ppfacerec.metrics.verification import VerificationResult, evaluate


class FaceAccOnFiveDatasets:
    """Verification accuracy by insightface's protocol, on however many sets there are (PaddleClas's name).

    Args:
        num_folds: contiguous folds of the cross-validation.
    """

    def __init__(self, num_folds: int = 10) -> None:
        self.num_folds = num_folds

    def __call__(self, embeddings: np.ndarray, is_same: np.ndarray) -> VerificationResult:
        """Score one set; see ``evaluate``."""
        return evaluate(embeddings, is_same, self.num_folds)
