"""The threshold card: the threshold for each false accept rate, the TAR there, and its confidence interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ppfacerec.metrics.bootstrap import CONFIDENCE, NUM_RESAMPLES, Interval, tar_intervals
from ppfacerec.metrics.roc import OperatingPoint
from ppfacerec.metrics.verification import VerificationResult

CARD_FARS = (1e-1, 1e-2, 1e-3, 1e-4)


@dataclass(frozen=True)
class CardRow:
    """One false accept rate; `point` and `tar_interval` are None with too few pairs."""

    target_far: float
    point: OperatingPoint | None
    tar_interval: Interval | None


@dataclass(frozen=True)
class ThresholdCard:
    """Operating points of one set; `drawn` is the bootstrap's unit, identities if they are known, else pairs."""

    rows: tuple[CardRow, ...]
    drawn: Literal["identities", "pairs"]
    seed: int

    def to_json(self) -> dict[str, Any]:
        """The `threshold_card` of report/eval.json."""
        return {
            "rows": [
                {
                    "target_far": row.target_far,
                    "threshold": row.point.threshold if row.point else None,
                    "cosine_threshold": 1 - row.point.threshold / 2 if row.point else None,
                    "tar": row.point.tar if row.point else None,
                    "tar_interval": list(row.tar_interval) if row.tar_interval else None,
                    "far": row.point.far if row.point else None,
                }
                for row in self.rows
            ],
            "bootstrap": {
                "drawn": self.drawn, "confidence": CONFIDENCE, "resamples": NUM_RESAMPLES, "seed": self.seed,
            },
        }  # fmt: skip


def threshold_card(result: VerificationResult, identities: Sequence[str] | None = None, seed: int = 0) -> ThresholdCard:
    """Return the card of a set; `identities` (2N,) are the identities of images 2i and 2i + 1 of pair i."""
    points = {far: result.points[far] for far in CARD_FARS}
    known = [far for far, point in points.items() if point]
    numbers = None
    if identities is not None:
        numbers = np.unique(np.asarray(identities), return_inverse=True)[1].reshape(-1, 2)
    found = tar_intervals(result.distances, result.is_same, known, numbers, seed) if known else []
    intervals = dict(zip(known, found))
    rows = tuple(CardRow(far, point, intervals.get(far)) for far, point in points.items())
    return ThresholdCard(rows, "pairs" if numbers is None else "identities", seed)
