"""The range of every number that a config may hold, by its name; constructors and the config's check read it."""

from collections.abc import Callable, Mapping
from typing import Any

_INF = float("inf")


# Comparisons that are false for NaN and for infinity.
_AT_LEAST_1 = ("an integer of at least 1", lambda x: 1 <= x < _INF)
_NOT_NEGATIVE = ("a number of at least 0", lambda x: 0 <= x < _INF)
_OFF_OR_MORE = ("0 (off) or more", lambda x: 0 <= x < _INF)
_POSITIVE = ("a positive number", lambda x: 0 < x < _INF)
_BELOW_1 = ("a number from 0 to below 1", lambda x: 0 <= x < 1)
_INSIDE = ("a number between 0 and 1", lambda x: 0 < x < 1)
_FACTOR = ("a positive number up to 1", lambda x: 0 < x <= 1)

RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    **dict.fromkeys(["epochs", "save_interval", "eval_interval", "print_batch_step", "update_freq"], _AT_LEAST_1),
    **dict.fromkeys(["batch_size", "prefetch_factor", "base_batch_size", "step_size"], _AT_LEAST_1),
    "max_bad_steps": ("an integer of at least 1 or null", _AT_LEAST_1[1]),
    **dict.fromkeys(["watchdog_minutes", "clip_norm"], ("a positive number or null", _POSITIVE[1])),
    **dict.fromkeys(
        ["save_interval_steps", "save_interval_minutes", "keep_last", "check_replicas_steps"], _OFF_OR_MORE
    ),
    **dict.fromkeys(["num_workers", "max_bad_images"], _NOT_NEGATIVE),
    "seed": ("an integer from 0 to 4294967295", lambda x: 0 <= x < 1 << 32),  # NumPy's
    **dict.fromkeys(["scale_loss", "learning_rate", "epsilon", "power"], _POSITIVE),
    **dict.fromkeys(["weight_decay", "eta_min", "end_lr", "values", "warmup_epoch", "warmup_start_lr"], _NOT_NEGATIVE),
    "weight": _NOT_NEGATIVE,  # of a loss
    **dict.fromkeys(["beta1", "beta2", "momentum", "CELoss.epsilon"], _BELOW_1),
    "decay": _INSIDE,  # of EMA
    "gamma": _FACTOR,
}


def range_problems(values: Mapping[str, Any], component: str = "") -> dict[str, str]:
    """Name -> "expected ..., found ..." of each value out of its range; what is no number is the types' business.

    Args:
        component: whose arguments they are, where a name has another range there.
    """
    problems = {}
    for name, value in values.items():
        words, holds = RANGES.get(f"{component}.{name}", RANGES.get(name, ("", lambda x: True)))
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(one, (int, float)) and not holds(one):
                problems[name] = f"expected {words}, found {one}"
    return problems


def require_ranges(component: str = "", **values: Any) -> None:
    """Raise a ValueError that names the first value out of its range."""
    for name, problem in range_problems(values, component).items():
        raise ValueError(f"{name}: {problem}.")
