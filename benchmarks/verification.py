"""How much faster is counting than the plain loops over folds and thresholds? 6,000 pairs of 512 numbers.

    python benchmarks/verification.py [--runs 7]

The plain version does what the peers do: for every fold and every threshold it compares every pair again.
Both give the same numbers, which is checked first. Target: at least 30 times faster.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppfacerec.metrics import evaluate, normalize
from ppfacerec.metrics.verification import ACCURACY_THRESHOLDS, FAR_TARGET, VAL_THRESHOLDS

NUM_PAIRS, SIZE, NUM_FOLDS = 6000, 512, 10


def make_pairs(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    is_same = np.tile(np.repeat([True, False], NUM_PAIRS // (2 * NUM_FOLDS)), NUM_FOLDS)
    left, right = random.standard_normal((2, NUM_PAIRS, SIZE))
    right[is_same] += 0.25 * left[is_same]
    return normalize(np.stack([left, right], axis=1).reshape(-1, SIZE)).astype(np.float32), is_same


def accuracy_at(distances: np.ndarray, is_same: np.ndarray, threshold: float) -> tuple[float, float, float]:
    """Return accuracy, TPR and FPR at one threshold."""
    accepted = distances < threshold
    true_accepts, false_accepts = np.sum(accepted & is_same), np.sum(accepted & ~is_same)
    true_rejects, false_rejects = np.sum(~accepted & ~is_same), np.sum(~accepted & is_same)
    accuracy = (true_accepts + true_rejects) / len(is_same)
    return accuracy, true_accepts / (true_accepts + false_rejects), false_accepts / (false_accepts + true_rejects)


def rates_at(distances: np.ndarray, is_same: np.ndarray, threshold: float) -> tuple[float, float]:
    """Return TAR and FAR at one threshold."""
    accepted = distances < threshold
    return np.sum(accepted & is_same) / np.sum(is_same), np.sum(accepted & ~is_same) / np.sum(~is_same)


def plain_evaluate(embeddings: np.ndarray, is_same: np.ndarray) -> dict[str, float]:
    distances = np.sum(np.square(embeddings[0::2] - embeddings[1::2]), 1)
    accuracy, val, far = [], [], []
    for test in np.array_split(np.arange(len(is_same)), NUM_FOLDS):
        train = np.setdiff1d(np.arange(len(is_same)), test)
        train_accuracy = [accuracy_at(distances[train], is_same[train], float(t))[0] for t in ACCURACY_THRESHOLDS]
        for t in ACCURACY_THRESHOLDS:  # the ROC of the fold
            accuracy_at(distances[test], is_same[test], float(t))
        best = float(ACCURACY_THRESHOLDS[int(np.argmax(train_accuracy))])
        accuracy.append(accuracy_at(distances[test], is_same[test], best)[0])
        train_far = np.array([rates_at(distances[train], is_same[train], float(t))[1] for t in VAL_THRESHOLDS])
        low = int(np.flatnonzero(train_far <= FAR_TARGET)[-1])
        threshold = float(np.interp(FAR_TARGET, train_far[low : low + 2], VAL_THRESHOLDS[low : low + 2]))
        fold_val, fold_far = rates_at(distances[test], is_same[test], threshold)
        val.append(fold_val)
        far.append(fold_far)
    means = {"accuracy_mean": np.mean(accuracy), "val": np.mean(val), "val_std": np.std(val), "far": np.mean(far)}
    return {name: float(value) for name, value in means.items()}


def median_seconds(function: Callable[[], object], runs: int) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="timed runs of each; the median counts")
    runs = parser.parse_args().runs
    embeddings, is_same = make_pairs()
    result, plain = evaluate(embeddings, is_same), plain_evaluate(embeddings, is_same)
    for name, value in plain.items():
        assert abs(getattr(result, name) - value) < 1e-12, (name, getattr(result, name), value)
    plain_seconds = median_seconds(lambda: plain_evaluate(embeddings, is_same), max(3, runs // 2))
    fast_seconds = median_seconds(lambda: evaluate(embeddings, is_same), runs)
    print(f"{NUM_PAIRS} pairs x {SIZE}, accuracy {result.accuracy_mean:.4f}, TAR@FAR=1e-3 {result.val:.4f}")
    print(f"{'version':<28}{'median ms':>12}{'ratio':>9}")
    print(f"{'plain folds x thresholds':<28}{plain_seconds * 1e3:>12.1f}{1.0:>9.1f}")
    print(f"{'ppfacerec (with exact ROC)':<28}{fast_seconds * 1e3:>12.1f}{plain_seconds / fast_seconds:>9.1f}")


if __name__ == "__main__":
    main()
