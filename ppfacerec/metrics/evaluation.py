"""Results of one evaluation over several sets: table and eval.json, with its schema in docs/evaluation.md."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppfacerec.core.io.atomic_file import atomic_write_text
from ppfacerec.core.log import table
from ppfacerec.metrics.roc import far_name
from ppfacerec.metrics.verification import VerificationResult

AVERAGE = "average_accuracy"  # its key in eval.json


@dataclass(frozen=True)
class Evaluation:
    """Results of one evaluation, one per set, in the order of the config.

    Attributes:
        is_one_model: one model on different sets, so that their average is meaningful.
    """

    results: Mapping[str, VerificationResult]
    is_one_model: bool = True

    @property
    def average_accuracy(self) -> float:
        return float(np.mean([r.accuracy_mean for r in self.results.values()]))

    def to_json(self) -> dict[str, Any]:
        """Return the content of eval.json; None where a set has too few pairs ("n/a")."""
        sets = {json_key(name): set_to_json(result) for name, result in self.results.items()}
        return {**sets, AVERAGE: self.average_accuracy if self.is_one_model else None}

    def save(self, path: Path) -> None:
        with atomic_write_text(path) as file:
            file.write(json.dumps(self.to_json(), indent=2) + "\n")

    def table(self) -> str:
        rows = [
            [name, f"{r.accuracy_mean:.5f}", f"{r.accuracy_std:.5f}", f"{r.threshold:.3f}",
             or_na(r.tar_at_target), "n/a" if r.far is None else f"{r.far:.1e}", or_na(r.auc), or_na(r.xnorm, 2),
             str(r.num_pairs)]
            for name, r in self.results.items()
        ]  # fmt: skip
        if self.is_one_model:
            rows.append(["average", f"{self.average_accuracy:.5f}", *[""] * 7])
        header = ["set", "accuracy", "std", "threshold", "TAR@FAR=1e-3", "measured FAR", "AUC", "XNorm", "pairs"]
        return table(header, rows)


def json_key(name: str) -> str:
    """Return a set's key in eval.json: its name, unless that is the key of the average."""
    return f"{name}_set" if name == AVERAGE else name


def or_na(value: float | None, digits: int = 5) -> str:
    """Format a number for display, "n/a" for None."""
    return "n/a" if value is None else f"{value:.{digits}f}"


def set_to_json(result: VerificationResult) -> dict[str, Any]:
    """Return one set's entry in eval.json."""
    num_same = int(result.is_same.sum())
    return {
        "accuracy": result.accuracy_mean,
        "accuracy_std": result.accuracy_std,
        "threshold": result.threshold,
        "cosine_threshold": result.cosine_threshold,
        "num_pairs": result.num_pairs,
        "num_same": num_same,
        "num_different": result.num_pairs - num_same,
        "tar_at_far_1e-3": result.tar_at_target,
        "tar_at_far_1e-3_std": None if result.tar_at_target is None else result.val_std,
        "measured_far": result.far,
        "val": result.val,
        "val_std": result.val_std,
        "xnorm": result.xnorm,
        "doubts": list(result.doubts),
        "auc": result.auc,
        "eer": result.eer,
        "tar_at_far": {far_name(far): point.tar if point else None for far, point in result.points.items()},
        "threshold_at_far": {far_name(far): point.threshold if point else None for far, point in result.points.items()},
        "fold_accuracy": result.accuracy.tolist(),
        "fold_threshold": result.best_thresholds.tolist(),
    }
