"""How often does the 95 % interval of TAR at a fixed FAR hold the true TAR, by the number of false accepts?

Scores are drawn from two normal distributions, so that the true TAR at each FAR is known.

    python benchmarks/coverage.py
"""

from __future__ import annotations

import argparse
from statistics import NormalDist

import numpy as np

from ppfacerec.metrics.bootstrap import tar_intervals

SAME, DIFFERENT = NormalDist(0.6, 0.25), NormalDist(1.6, 0.25)  # squared distances
FALSE_ACCEPTS = (1, 2, 3, 5, 10, 20, 50, 100)


def coverage(far: float, num_different: int, trials: int) -> tuple[float, float]:
    """Share of the trials whose interval holds the true TAR, and the mean width."""
    true_tar, random = SAME.cdf(DIFFERENT.inv_cdf(far)), np.random.default_rng(num_different)
    is_same, widths, held = np.arange(2 * num_different) % 2 == 0, [], 0
    for trial in range(trials):
        distances = np.where(
            is_same,
            random.normal(SAME.mean, SAME.stdev, len(is_same)),
            random.normal(DIFFERENT.mean, DIFFERENT.stdev, len(is_same)),
        )
        (interval,) = tar_intervals(distances, is_same, [far], seed=trial, num_resamples=400, least_false_accepts=1)
        assert interval is not None
        held += interval[0] <= true_tar <= interval[1]
        widths.append(interval[1] - interval[0])
    return held / trials, float(np.mean(widths))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--far", type=float, default=1e-2)
    arguments = parser.parse_args()
    print(f"FAR {arguments.far:g}, {arguments.trials} trials\n")
    print("| false accepts allowed | pairs of different people | coverage | mean width |\n|---|---|---|---|")
    for allowed in FALSE_ACCEPTS:
        num_different = round(allowed / arguments.far)
        held, width = coverage(arguments.far, num_different, arguments.trials)
        print(f"| {allowed} | {num_different:,} | {held:.3f} | {width:.3f} |", flush=True)


if __name__ == "__main__":
    main()
