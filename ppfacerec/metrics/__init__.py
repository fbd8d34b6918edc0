"""Face verification metrics over pairs."""

from ppfacerec.core.registry import Registry
from ppfacerec.metrics.pair_embeddings import normalize, sum_flip
from ppfacerec.metrics.roc import OperatingPoint, Roc
from ppfacerec.metrics.verification import FaceAccOnFiveDatasets, VerificationResult, evaluate

# PaddleClas's ResNet50 config names BestAccOnFiveDatasets, which PaddleClas never implemented.
METRICS = Registry("metric", FaceAccOnFiveDatasets, BestAccOnFiveDatasets=FaceAccOnFiveDatasets)

__all__ = [
    "METRICS",
    "FaceAccOnFiveDatasets",
    "OperatingPoint",
    "Roc",
    "VerificationResult",
    "evaluate",
    "normalize",
    "sum_flip",
]
