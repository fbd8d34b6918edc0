"""`evaluate` against the numbers of insightface and PaddleClas, and against a plain slow version."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ppfacerec.metrics import evaluate, normalize, sum_flip
from ppfacerec.metrics.evaluation import Evaluation, set_to_json
from ppfacerec.metrics.pair_embeddings import pair_distances
from ppfacerec.metrics.roc import FARS, exact_roc
from ppfacerec.metrics.verification import ACCURACY_THRESHOLDS, VAL_THRESHOLDS, _interpolate_threshold

INSIGHTFACE = np.load(Path(__file__).parent / "fixtures" / "insightface_verification.npz")
CASES = {  # seed, pairs, dim, noise within a same pair, likeness within a different pair
    "n6000_d128_s0": (0, 6000, 128, 0.7, 0.35),
    "n7000_d512_s3": (3, 7000, 512, 0.9, 0.55),
}
PADDLECLAS_THRESHOLDS = {
    "n6000_d128_s0": [1.01, 1.03, 1.0, 1.01, 1.01, 1.01, 1.01, 1.01, 1.01, 1.0],
    "n7000_d512_s3": [1.03, 1.03, 1.04, 1.04, 1.03, 1.04, 1.05, 1.03, 1.03, 1.04],
}
PADDLECLAS_ACCURACY = {"n6000_d128_s0": 0.9976666666666667, "n7000_d512_s3": 0.9812857142857142}


def make_pairs(seed: int, pairs: int, dim: int, noise: float, hard: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit float32 embeddings by the rule of the reference numbers, in blocks of a kind as in real .bin files."""
    random = np.random.RandomState(seed)
    block = pairs // 20
    same = np.array(([True] * block + [False] * block) * 10)
    a, b, c = (random.randn(pairs, dim) for _ in range(3))
    strength, share = random.uniform(0.3, 1.7, (pairs, 1)), random.uniform(0, hard, (pairs, 1))
    embeddings = np.empty((2 * pairs, dim))
    embeddings[0::2] = a + 0.3 * noise * strength * c
    embeddings[1::2] = np.where(same[:, None], a + noise * strength * b, share * a + b)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings.astype("float32"), same


def small_pairs(pairs: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return make_pairs(seed, pairs, 8, 0.9, 0.9)


def slow_evaluate(embeddings: np.ndarray, same: np.ndarray, num_folds: int = 10) -> dict[str, np.ndarray]:
    """The protocol word by word: every fold, every threshold, every pair."""
    distances = np.sum(np.square(embeddings[0::2] - embeddings[1::2]), 1)
    out: dict[str, list] = {name: [] for name in ("tpr", "fpr", "accuracy", "best_thresholds", "val", "far")}
    for test in np.array_split(np.arange(len(same)), num_folds):
        train = np.setdiff1d(np.arange(len(same)), test)
        train_accuracy = [np.mean((distances[train] < t) == same[train]) for t in ACCURACY_THRESHOLDS]
        best = ACCURACY_THRESHOLDS[int(np.argmax(train_accuracy))]
        out["best_thresholds"].append(best)
        out["accuracy"].append(np.mean((distances[test] < best) == same[test]))
        positive, negative = distances[test][same[test]], distances[test][~same[test]]
        out["tpr"].append([np.mean(positive < t) for t in ACCURACY_THRESHOLDS])
        out["fpr"].append([np.mean(negative < t) for t in ACCURACY_THRESHOLDS])
        train_negative = distances[train][~same[train]]
        fars = np.array([np.mean(train_negative < t) for t in VAL_THRESHOLDS])
        threshold = 0.0
        if fars.max() >= 1e-3:
            low = np.flatnonzero(fars <= 1e-3)[-1]
            share = (1e-3 - fars[low]) / (fars[low + 1] - fars[low])
            threshold = VAL_THRESHOLDS[low] + share * (VAL_THRESHOLDS[low + 1] - VAL_THRESHOLDS[low])
        out["val"].append(np.mean(positive < threshold))
        out["far"].append(np.mean(negative < threshold))
    return {name: np.array(values) for name, values in out.items()}


@pytest.mark.parametrize("case", CASES)
def test_numbers_equal_insightface_and_paddleclas(case: str) -> None:
    result = evaluate(*make_pairs(*CASES[case]))
    for name in ("accuracy", "tpr", "fpr"):
        np.testing.assert_array_equal(getattr(result, name), INSIGHTFACE[f"{case}.{name}"], err_msg=name)
    for name in ("val", "val_std", "far"):
        np.testing.assert_allclose(
            getattr(result, name), INSIGHTFACE[f"{case}.{name}"], rtol=0, atol=1e-12, err_msg=name
        )
    assert result.best_thresholds.tolist() == PADDLECLAS_THRESHOLDS[case]
    assert result.accuracy_mean == PADDLECLAS_ACCURACY[case]
    assert result.accuracy_std == np.std(INSIGHTFACE[f"{case}.accuracy"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("pairs", "num_folds", "seed"), [(120, 10, 0), (80, 3, 1), (200, 7, 2), (1000, 10, 3)])
def test_counting_equals_looping(dtype: str, pairs: int, num_folds: int, seed: int) -> None:
    embeddings, same = small_pairs(pairs, seed)
    same = np.random.RandomState(seed).permutation(same)  # every fold has some of both kinds
    slow = slow_evaluate(embeddings.astype(dtype), same, num_folds)
    fast = evaluate(embeddings.astype(dtype), same, num_folds)
    np.testing.assert_array_equal(fast.accuracy, slow["accuracy"])
    np.testing.assert_array_equal(fast.best_thresholds, slow["best_thresholds"])
    np.testing.assert_allclose(fast.tpr, slow["tpr"].mean(0), atol=1e-15)
    np.testing.assert_allclose(fast.fpr, slow["fpr"].mean(0), atol=1e-15)
    expected = [slow["val"].mean(), slow["val"].std(), slow["far"].mean()]
    np.testing.assert_allclose(np.array([fast.val, fast.val_std, fast.far], float), expected, atol=1e-15)


def test_distance_equal_to_a_threshold_is_rejected() -> None:
    embeddings = np.zeros((20, 1))
    embeddings[1::2] = 1.0  # every distance is exactly 1.0, which is a threshold
    result = evaluate(embeddings, [True] * 10)
    assert result.tpr[100] == 0
    assert result.tpr[101] == 1
    assert result.best_thresholds.tolist() == [1.01] * 10


def test_folds_are_contiguous_and_the_first_ones_take_the_remainder() -> None:
    embeddings = np.zeros((46, 1))
    labels = [True] * 23
    labels[2] = labels[3] = False  # the last pair of a fold of 3 and the first of the next
    accuracy = evaluate(embeddings, labels).accuracy
    assert accuracy.tolist() == [2 / 3, 2 / 3] + [1.0] * 8


def test_duplicates_in_far_are_interpolated_as_scipy_1_8_did() -> None:
    # Checked against SciPy 1.8.1's interp1d(kind="slinear") on 11,258 random staircases: equal to the last bit.
    far = np.array([0, 0, 0, 0.5, 0.5, 1, 1])
    thresholds = np.arange(7) / 10
    assert _interpolate_threshold(far, thresholds, 0.25) == 0.25
    assert _interpolate_threshold(far, thresholds, 0.5) == 0.4  # the last of the equal ones
    assert _interpolate_threshold(far, thresholds, 1.0) == 0.0  # a flat top step at the target: an empty interval
    assert _interpolate_threshold(far[:4], thresholds[:4], 0.5) == thresholds[3]


def test_far_out_of_reach_gives_threshold_zero() -> None:
    embeddings = np.zeros((200, 1))
    same = np.tile([True, False], 50).repeat(2)[:100]
    embeddings[1::2][~same] = 9.0  # different pairs are beyond every threshold
    result = evaluate(embeddings, same)
    assert (result.val, result.val_std, result.far) == (0.0, 0.0, 0.0)


def test_exact_roc_equals_counting_at_every_threshold() -> None:
    distances = np.array([0.1, 0.2, 0.2, 0.5, 0.7, 0.7, 0.9])
    same = np.array([True, True, False, True, False, True, False])
    roc = exact_roc(distances, same)
    assert roc.thresholds.tolist() == [0.1, 0.2, 0.5, 0.7, 0.9, np.inf]
    for threshold, tpr, fpr in zip(roc.thresholds, roc.tpr, roc.fpr):
        assert tpr == np.mean(distances[same] < threshold)
        assert fpr == np.mean(distances[~same] < threshold)


def test_auc_is_the_chance_that_a_same_pair_is_nearer() -> None:
    embeddings, same = small_pairs()
    distances = pair_distances(embeddings).round(1)  # with ties
    left, right = distances[same][:, None], distances[~same][None]
    assert exact_roc(distances, same).auc() == pytest.approx(np.mean((left < right) + 0.5 * (left == right)), abs=1e-12)


def test_eer_is_where_false_accepts_equal_false_rejects() -> None:
    result = evaluate(*make_pairs(1, 2000, 16, 0.9, 0.9))
    assert result.roc is not None
    assert result.eer is not None
    gap = np.abs(result.roc.fpr - (1 - result.roc.tpr))
    nearest = int(np.argmin(gap))
    assert result.eer == pytest.approx(result.roc.fpr[nearest], abs=1e-3)
    assert exact_roc(np.array([1.0, 2.0]), np.array([True, False])).eer() == 0
    assert exact_roc(np.array([2.0, 1.0]), np.array([True, False])).eer() == 1


def test_tar_at_far_is_the_best_rate_within_the_far() -> None:
    embeddings, same = small_pairs(2000)
    result, distances = evaluate(embeddings, same), pair_distances(embeddings)
    assert result.roc is not None
    for far in (1e-1, 1e-2, 1e-3):
        allowed = [t for t in result.roc.thresholds if np.mean(distances[~same] < t) <= far]
        assert result.tar_at_far[far] == np.mean(distances[same] < max(allowed))
        point = result.roc.at_far(far)
        assert point is not None
        assert point.threshold == max(allowed)
    assert {far for far, tar in result.tar_at_far.items() if tar is None} == {1e-4, 1e-5, 1e-6}  # 1,000 negatives


@pytest.mark.parametrize("label", [True, False])
def test_one_class_gives_accuracy_and_no_rates(label: bool) -> None:
    embeddings, _ = small_pairs()
    result = evaluate(embeddings, [label] * 60)
    assert result.accuracy.shape == (10,)
    assert 0 <= result.accuracy_mean <= 1
    assert (result.val, result.val_std, result.far, result.roc, result.auc, result.eer) == (None,) * 6
    assert result.tar_at_far == dict.fromkeys(FARS)


def test_fold_without_one_kind_gives_accuracy_and_exact_rates_but_no_val() -> None:
    embeddings, _ = small_pairs()
    result = evaluate(embeddings, [True] * 30 + [False] * 30)
    assert result.val is None
    assert result.far is None
    assert result.auc is not None
    assert result.tar_at_far[1e-1] is not None


def test_half_precision_is_compared_in_float64() -> None:
    embeddings, same = small_pairs()
    half, full = (
        evaluate(embeddings.astype("float16"), same),
        evaluate(embeddings.astype("float16").astype(float), same),
    )
    assert half.auc == full.auc
    assert half.eer == full.eer
    assert half.val == full.val


def test_sum_flip_normalises_the_sum_in_float64() -> None:
    a, b = np.array([[3, 0], [0, 0]], "float32"), np.array([[0, 4], [0, 0]], "float32")
    assert sum_flip(a, b).tolist() == [[0.6, 0.8], [0, 0]]
    np.testing.assert_allclose(sum_flip(a, b, feature_normalize=True)[0], [0.5**0.5] * 2)
    assert sum_flip(a, b).dtype == normalize(a).dtype == np.float64


GOOD = np.zeros((20, 4))
NAN = GOOD.copy()
NAN[[5, 7], 2] = np.nan
MISTAKES = [
    (
        GOOD[0],
        [True],
        "embeddings has shape [4] and dtype float64, expected real numbers of shape [2 * pairs, embedding_size].",
    ),
    (GOOD.astype(str), [True] * 10, "embeddings has shape [20, 4] and dtype <U32, expected real numbers"),
    (GOOD[1:], [True] * 10, "embeddings has 19 rows, expected an even number: rows 2i and 2i + 1 are pair i."),
    (GOOD, [True] * 9, "is_same has 9 labels for 10 pairs (20 rows), expected one label per pair."),
    (GOOD, ["yes"] * 10, "is_same has shape [10] and dtype <U3, expected one True or False (or 1 or 0) per pair."),
    (
        GOOD,
        [0, 1, 2] * 3 + [0],
        "is_same has shape [10] and dtype int64, expected one True or False (or 1 or 0) per pair.",
    ),
    (GOOD, [0.0] * 10, "is_same has shape [10] and dtype float64, expected one True or False (or 1 or 0) per pair."),
    (
        GOOD[:8],
        [True] * 4,
        "4 pairs cannot be split into 10 folds: the threshold is chosen on all folds but one and judged on that one. "
        "Pass at least as many pairs as folds, and at least 2 folds.",
    ),
    (
        NAN,
        [True] * 10,
        "embeddings holds NaN or infinity in 2 of 20 rows, first in row 5 (pair 2). "
        "The model diverged or overflowed: check its weights, and evaluate in float32.",
    ),
]


@pytest.mark.parametrize(("embeddings", "is_same", "message"), MISTAKES)
def test_mistakes_are_explained(embeddings: np.ndarray, is_same: list, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        evaluate(embeddings, is_same)


def collapsed(num_pairs: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    return np.tile([[1.0, 0.0]], (2 * num_pairs, 1)), np.arange(num_pairs) % 2 == 0


def test_val_that_was_measured_at_another_far_is_not_told_as_tar_at_1e_3() -> None:
    result = evaluate(*collapsed())
    assert (result.val, result.far, result.auc) == (1.0, 1.0, 0.5)
    assert result.tar_at_target is None
    found = set_to_json(result)
    assert (found["tar_at_far_1e-3"], found["val"], found["measured_far"]) == (None, 1.0, 1.0)
    row = Evaluation({"x": result}).table().splitlines()[2].split()
    assert row[4:6] == ["n/a", "1.0e+00"]
    good = evaluate(*make_pairs(0, 4000, 64, 0.4, 1.0))
    assert good.tar_at_target == good.val
    assert set_to_json(good)["tar_at_far_1e-3"] == good.val


def test_tar_that_the_card_cannot_tell_is_not_told_elsewhere() -> None:
    result = evaluate(*make_pairs(0, 1000, 64, 0.4, 1.0))  # 500 pairs of different people
    assert result.val is not None
    assert result.tar_at_target is None


def test_embeddings_that_mean_nothing_are_named() -> None:
    assert [doubt for doubt in evaluate(*collapsed()).doubts if "collapsed" in doubt]
    rows, same = small_pairs()
    assert evaluate(rows, same).doubts == ()
    rows[6:8] = 0
    assert evaluate(rows, same).doubts == (
        "2 of 120 embeddings are zero, first in row 6 (pair 3): the network gives no information about these images.",
    )


def test_folds_of_one_kind_are_named() -> None:
    rows, _ = small_pairs()
    (doubt,) = evaluate(rows, [True] * 30 + [False] * 30).doubts
    assert doubt.startswith("10 of 10 folds hold pairs of one kind only")
    assert evaluate(rows, [True, False] * 30).doubts == ()
    assert evaluate(rows, [True] * 60).doubts == ()  # one kind in all: said by n/a


def test_length_that_overflows_is_an_error_and_not_a_zero_row() -> None:
    with pytest.raises(
        ValueError, match=r"the length of 1 of 2 rows overflows, first of row 1 \(largest number 1e\+300"
    ):
        normalize(np.array([[1.0, 2.0], [1e300, 1.0]]))
