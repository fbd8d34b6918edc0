"""The metric by the name that the YAML gives it."""

import numpy as np

from ppfacerec.metrics.verification import VerificationResult, evaluate


class FaceAccOnFiveDatasets:
    """Verification accuracy by insightface's protocol, on however many sets there are (PaddleClas's name).

    Args:
        num_folds: contiguous folds of the cross-validation, for sets that do not prescribe them.
    """

    def __init__(self, num_folds: int = 10) -> None:
        self.num_folds = num_folds

    def __call__(self, embeddings: np.ndarray, is_same: np.ndarray, num_folds: int | None = None) -> VerificationResult:
        """Score one set; see ``evaluate``. `num_folds` is the set's own, such as pairs.txt has in its first line."""
        return evaluate(embeddings, is_same, num_folds or self.num_folds)
