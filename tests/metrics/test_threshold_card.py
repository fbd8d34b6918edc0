"""The threshold card: rates that were asked for, and intervals that a slow bootstrap gives too."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from ppfacerec.metrics import evaluate
from ppfacerec.metrics.bootstrap import MIN_FALSE_ACCEPTS, tar_intervals
from ppfacerec.metrics.threshold_card import CARD_FARS, threshold_card

NUM_PEOPLE = 40


def people_pairs(num_pairs: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances, labels and (N, 2) identities; some people are harder than others."""
    random = np.random.default_rng(seed)
    is_same = np.arange(num_pairs) % 2 == 0
    identities = random.integers(0, NUM_PEOPLE, (num_pairs, 2))
    identities[is_same, 1] = identities[is_same, 0]
    identities[~is_same, 1] = (identities[~is_same, 0] + random.integers(1, NUM_PEOPLE, (~is_same).sum())) % NUM_PEOPLE
    hardness = random.normal(0, 0.3, NUM_PEOPLE)
    distances = np.where(is_same, 0.8, 1.5) + hardness[identities[:, 0]] + random.normal(0, 0.2, num_pairs)
    return distances.clip(0.01, 4).round(2), is_same, identities  # rounded: with ties


def slow_tar(distances: np.ndarray, is_same: np.ndarray, weights: np.ndarray, far: float) -> float:
    """TAR at FAR of weighted pairs, threshold by threshold."""
    best = 0.0
    for threshold in [*np.unique(distances), np.inf]:
        accepted = distances < threshold
        if weights[accepted & ~is_same].sum() <= far * weights[~is_same].sum() + 1e-9:
            best = weights[accepted & is_same].sum() / weights[is_same].sum()
    return best


@pytest.mark.parametrize("over", ["pairs", "identities"])
def test_interval_equals_a_slow_bootstraps(over: str) -> None:
    distances, is_same, identities = people_pairs(120)
    random = np.random.default_rng(5)
    by_pairs, by_people = [], []
    for _ in range(400):
        drawn = np.r_[random.choice(np.flatnonzero(is_same), 60), random.choice(np.flatnonzero(~is_same), 60)]
        by_pairs.append(slow_tar(distances, is_same, np.bincount(drawn, minlength=120).astype(float), 0.1))
        size = identities.max() + 1
        times = np.bincount(random.choice(size, size), minlength=size).astype(float)
        weights = np.where(is_same, times[identities[:, 0]], times[identities[:, 0]] * times[identities[:, 1]])
        by_people.append(slow_tar(distances, is_same, weights, 0.1))
    slow = by_pairs if over == "pairs" else by_people
    who = identities if over == "identities" else None
    (fast,) = tar_intervals(distances, is_same, [0.1], who, num_resamples=2000, least_false_accepts=1)
    assert fast is not None
    np.testing.assert_allclose(fast, np.percentile(slow, [2.5, 97.5]), atol=0.06)


def test_interval_is_the_same_for_the_same_seed_and_covers_the_rate() -> None:
    distances, is_same, identities = people_pairs()
    first, again, other = (tar_intervals(distances, is_same, [0.1, 0.05], identities, seed) for seed in (3, 3, 4))
    assert first == again != other
    for far, interval in zip((0.1, 0.05), first):
        assert interval is not None
        assert interval[0] <= slow_tar(distances, is_same, np.ones(len(distances)), far) <= interval[1]


def test_people_are_less_sure_than_pairs_where_some_people_are_hard() -> None:
    distances, is_same, identities = people_pairs()
    (pairs,), (people,) = (tar_intervals(distances, is_same, [0.1], who) for who in (None, identities))
    assert pairs is not None
    assert people is not None
    assert people[1] - people[0] > pairs[1] - pairs[0]


def test_interval_over_too_few_people_is_not_told() -> None:
    distances, is_same = np.array([0.1, 0.5]), np.array([True, False])
    assert tar_intervals(distances, is_same, [1.0], np.array([[0, 0], [1, 2]]), least_false_accepts=1) == [None]


def test_interval_that_rests_on_few_false_accepts_is_not_told() -> None:
    distances, is_same, _ = people_pairs()  # 200 pairs of different people
    nine, ten = tar_intervals(distances, is_same, [0.0499, 0.05])
    assert nine is None
    assert ten is not None
    card = threshold_card(evaluate(embeddings_of(distances), is_same))
    assert [(row.point is None, row.tar_interval is None) for row in card.rows][:2] == [(False, False), (False, True)]


@pytest.mark.slow
def test_interval_of_95_percent_covers_from_the_least_number_of_false_accepts_on() -> None:
    random, far = np.random.default_rng(0), 0.05
    num_different = round(MIN_FALSE_ACCEPTS / far)
    is_same, true_tar = (
        np.arange(2 * num_different) % 2 == 0,
        NormalDist(0.6, 0.25).cdf(NormalDist(1.6, 0.25).inv_cdf(far)),
    )
    held = 0
    for trial in range(200):
        distances = np.where(is_same, 0.6, 1.6) + random.normal(0, 0.25, 2 * num_different)
        (interval,) = tar_intervals(distances, is_same, [far], seed=trial, num_resamples=300)
        assert interval is not None
        held += interval[0] <= true_tar <= interval[1]
    assert held >= 0.88 * 200


def embeddings_of(distances: np.ndarray) -> np.ndarray:
    rows = np.zeros((2 * len(distances), 1))
    rows[1::2, 0] = np.sqrt(distances)
    return rows


def test_card_has_the_exact_points_and_both_thresholds() -> None:
    distances, is_same, identities = people_pairs()
    result = evaluate(embeddings_of(distances), is_same)
    card = threshold_card(result, [f"person {i}" for i in identities.ravel()])
    assert card.drawn == "identities"
    assert [row.target_far for row in card.rows] == list(CARD_FARS)
    assert [row.point is None for row in card.rows] == [False, False, True, True]  # 200 pairs of different people
    content = card.to_json()
    first = content["rows"][0]
    assert first["tar"] == result.tar_at_far[0.1]
    assert first["far"] <= 0.1
    assert first["cosine_threshold"] == 1 - first["threshold"] / 2
    assert first["tar_interval"][0] <= first["tar"] <= first["tar_interval"][1]
    assert content["rows"][3] == {"target_far": 1e-4, **dict.fromkeys(
        ("threshold", "cosine_threshold", "tar", "tar_interval", "far"))}  # fmt: skip
    assert content["bootstrap"] == {"drawn": "identities", "confidence": 0.95, "resamples": 1000, "seed": 0}
    assert threshold_card(result).drawn == "pairs"


def test_card_of_one_class_is_na() -> None:
    card = threshold_card(evaluate(np.ones((20, 2)), [True] * 10))
    assert all(row.point is None and row.tar_interval is None for row in card.rows)
