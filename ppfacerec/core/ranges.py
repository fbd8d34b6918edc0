"""Valid ranges of components' arguments, by name; those of config sections are in config/schema.py."""

import numbers
from collections.abc import Callable
from typing import Any, NamedTuple, Optional

_INF = float("inf")


class Range(NamedTuple):
    """A valid range in words, and its test, which is false for NaN."""

    words: str
    holds: Callable[[float], bool]


AT_LEAST_1 = Range("an integer of at least 1", lambda x: 1 <= x < _INF)
NOT_NEGATIVE = Range("a number of at least 0", lambda x: 0 <= x < _INF)
OFF_OR_MORE = Range("0 (off) or more", lambda x: 0 <= x < _INF)
POSITIVE = Range("a positive number", lambda x: 0 < x < _INF)
BELOW_1 = Range("a number of at least 0 and below 1", lambda x: 0 <= x < 1)
FROM_0_TO_1 = Range("a number from 0 to 1", lambda x: 0 <= x <= 1)
BETWEEN_0_AND_1 = Range("a number between 0 and 1", lambda x: 0 < x < 1)
RADIANS = Range("an angle in radians from 0 to below pi", lambda x: 0 <= x < 3.1416)
SEED = Range("an integer from 0 to 4294967295", lambda x: 0 <= x < 1 << 32)  # NumPy's


def or_null(values: Range) -> Range:
    return Range(f"{values.words} or null", values.holds)


RANGES: dict[str, Range] = {
    **dict.fromkeys(["epochs", "batch_size", "base_batch_size", "step_size"], AT_LEAST_1),
    "clip_norm": or_null(POSITIVE),
    "seed": SEED,
    **dict.fromkeys(["learning_rate", "epsilon", "power", "scale"], POSITIVE),
    **dict.fromkeys(["weight_decay", "eta_min", "end_lr", "values", "warmup_epoch", "warmup_start_lr"], NOT_NEGATIVE),
    "weight": NOT_NEGATIVE,  # of a loss
    **dict.fromkeys(["embedding_size", "class_num"], AT_LEAST_1),
    **dict.fromkeys(["ArcMargin.margin", "CurricularMargin.margin", "CombinedMargin.m2"], RADIANS),
    "AdaMargin.margin": Range("an angle in radians from 0 to below pi / 2", lambda x: 0 <= x < 1.5708),
    **dict.fromkeys(
        ["CosMargin.margin", "CombinedMargin.m3"],
        Range("a difference of cosines from 0 to below 2", lambda x: 0 <= x < 2),
    ),
    **dict.fromkeys(
        ["SphereMargin.margin", "CombinedMargin.m1"],
        Range("a factor on the angle of at least 1", lambda x: 1 <= x < _INF),
    ),
    "AdaMargin.h": POSITIVE,
    "lambda_g": NOT_NEGATIVE,
    "make_demo_data.num_identities": Range("an integer of at least 2", lambda x: 2 <= x < _INF),
    "make_demo_data.images_per_identity": AT_LEAST_1,
    "make_demo_data.num_pairs": Range(
        "a multiple of 20 from 40 on (10 folds, half same and half different)", lambda x: x >= 40 and x % 20 == 0
    ),
    **dict.fromkeys(["prob", "EPSILON"], FROM_0_TO_1),
    **dict.fromkeys([f"RandPhotometric.{name}" for name in ("brightness", "contrast", "saturation")], FROM_0_TO_1),
    **dict.fromkeys(["beta1", "beta2", "momentum", "CELoss.epsilon"], BELOW_1),
    **dict.fromkeys(["gamma", "t_alpha"], Range("a positive number up to 1", lambda x: 0 < x <= 1)),
}


def range_of(name: str, component: str = "") -> Optional[Range]:
    """Return the range of an argument; some components override that of a name."""
    return RANGES.get(f"{component}.{name}", RANGES.get(name))


def range_problem(value: Any, values: Optional[Range]) -> Optional[str]:
    """Return "expected ..., found ..." for a number, or the first of several, out of its range."""
    for one in value if isinstance(value, (list, tuple)) else [value]:
        if values and isinstance(one, numbers.Real) and not values.holds(float(one)):
            return f"expected {values.words}, found {one}"
    return None


def require_count(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number of at least `least`, else raise a ValueError."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, found {value!r}.")
    return int(value)


def is_number(value: Any, least: float, most: float) -> bool:
    """Whether it is a real number from `least` to `most`; NaN, strings and bools are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and least <= float(value) <= most


def require_ranges(component: str = "", /, **values: Any) -> None:
    """Raise a ValueError that names the first value out of its range."""
    for name, value in values.items():
        problem = range_problem(value, range_of(name, component))
        if problem:
            raise ValueError(f"{name}: {problem}.")
