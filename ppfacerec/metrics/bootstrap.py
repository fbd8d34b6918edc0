"""Bootstrap confidence intervals of TAR at fixed FAR, over identities or over pairs.

Pairs of the same person are not independent: a hard face fails in all of its pairs. If identities are known, they are
drawn instead of pairs (the vertex bootstrap: Snijders and Borgatti 1999, "Non-parametric standard errors and tests for
network statistics"; Fogliato, Patil and Perona 2024, "Confidence intervals for error rates in 1:1 matching tasks").
"""

from collections.abc import Callable, Sequence

import numpy as np

from ppfacerec.metrics.roc import allowed_false_accepts

NUM_RESAMPLES = 1000
CONFIDENCE = 0.95
# A percentile interval needs this many false accepts: with fewer, the threshold depends on a few pairs, and a nominal
# 95 % covers 63 to 85 % with one and 85 to 90 % with three; from ten on 92 to 97 % (benchmarks/coverage.py).
MIN_FALSE_ACCEPTS = 10
_CHUNK = 50  # resamples at a time: 50 x 6,000 pairs of float64 are 2.4 MB
Interval = tuple[float, float]
Draw = Callable[[np.random.Generator, int], np.ndarray]  # (generator, R) -> weights (R, N)


def tar_intervals(
    distances: np.ndarray,
    is_same: np.ndarray,
    fars: Sequence[float],
    identities: np.ndarray | None = None,
    seed: int = 0,
    *,
    num_resamples: int = NUM_RESAMPLES,
    least_false_accepts: int = MIN_FALSE_ACCEPTS,
) -> list[Interval | None]:
    """Return the percentile interval of TAR at each FAR; every resample chooses its own threshold.

    A resample draws as many identities (or pairs of each kind) as there are, with replacement. For an identity drawn w
    times, its same pairs have weight w; a pair of two identities has weight w_a * w_b.

    Args:
        distances: [N] squared L2.
        is_same: [N] bool, with both kinds of pairs.
        fars: target FARs, such as 1e-3.
        identities: [N, 2] integer identities of each pair; None draws pairs.
        seed: seed of the resampling.

    Returns:
        (low, high) for each of `fars`: the 2.5th and 97.5th percentile over the resamples; None if the FAR allows
        fewer than `least_false_accepts`, or fewer than half of the resamples have pairs of both kinds.
    """
    order = np.argsort(distances, kind="stable")
    distances, is_same = distances[order], is_same[order]
    ends = np.flatnonzero(np.r_[np.diff(distances) > 0, True])  # the last pair of each distinct distance
    draw = _draw_pairs(is_same) if identities is None else _draw_identities(identities[order], is_same)
    random = np.random.default_rng(seed)
    tars: list[list[np.ndarray]] = [[] for _ in fars]
    for start in range(0, num_resamples, _CHUNK):
        weights = draw(random, min(_CHUNK, num_resamples - start))  # (R, N)
        accepted = _cumulated(weights * is_same, ends)  # (R, K + 1), up to each distinct distance
        false_accepted = _cumulated(weights * ~is_same, ends)
        usable = (accepted[:, -1] > 0) & (false_accepted[:, -1] > 0)
        accepted, false_accepted = accepted[usable], false_accepted[usable]
        for far, found in zip(fars, tars):
            allowed = far * false_accepted[:, -1:] + 1e-9
            k = np.sum(false_accepted <= allowed, axis=1) - 1
            found.append(accepted[np.arange(len(k)), k] / accepted[:, -1])
    tail, num_different = 50 * (1 - CONFIDENCE), int(np.sum(~is_same))
    return [
        _percentiles(np.concatenate(found), tail, num_resamples // 2)
        if allowed_false_accepts(far, num_different) >= least_false_accepts
        else None
        for far, found in zip(fars, tars)
    ]


def _percentiles(values: np.ndarray, tail: float, at_least: int) -> Interval | None:
    if len(values) < at_least:
        return None
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def _cumulated(weights: np.ndarray, ends: np.ndarray) -> np.ndarray:
    sums = np.cumsum(weights, axis=1)[:, ends]
    return np.concatenate([np.zeros((len(sums), 1)), sums], axis=1)


def _draw_pairs(is_same: np.ndarray) -> Draw:
    def draw(random: np.random.Generator, count: int) -> np.ndarray:
        weights = np.empty((count, len(is_same)))
        for kind in (is_same, ~is_same):
            size = int(kind.sum())
            weights[:, kind] = random.multinomial(size, np.full(size, 1 / size), count)
        return weights

    return draw


def _draw_identities(identities: np.ndarray, is_same: np.ndarray) -> Draw:
    size = int(identities.max()) + 1

    def draw(random: np.random.Generator, count: int) -> np.ndarray:
        drawn = random.multinomial(size, np.full(size, 1 / size), count).astype(np.float64)
        left, right = drawn[:, identities[:, 0]], drawn[:, identities[:, 1]]
        return np.where(is_same, left, left * right)

    return draw
