"""Learning-rate schedules: functions of the number of finished optimizer steps, so there is no state to save.

Every schedule may begin with a linear warm-up of `warmup_epoch` epochs from `warmup_start_lr` to `learning_rate`; the
schedule proper then starts at its own step 0, as PaddleClas's do (`LinearWarmup` over the decay).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence


class Schedule(ABC):
    """Learning rate by step.

    Args:
        learning_rate: the rate at the end of the warm-up.
        epochs: length of the training in epochs, warm-up included.
        steps_per_epoch: optimizer steps in an epoch.
        warmup_epoch: length of the warm-up in epochs, may be a fraction.
        warmup_start_lr: rate at step 0 of the warm-up.
    """

    def __init__(
        self,
        learning_rate: float,
        epochs: int,
        steps_per_epoch: int,
        warmup_epoch: float = 0,
        warmup_start_lr: float = 0.0,
    ) -> None:
        self.learning_rate = learning_rate
        self.steps_per_epoch = steps_per_epoch
        self.warmup_steps = round(warmup_epoch * steps_per_epoch)
        self.warmup_start_lr = warmup_start_lr
        if learning_rate <= 0:
            raise ValueError(f"learning_rate: expected a positive number, found {learning_rate}.")
        self.decay_steps = max(1, round((epochs - warmup_epoch) * steps_per_epoch))

    def __call__(self, step: int) -> float:
        """Learning rate of the step after `step` finished ones."""
        if step < self.warmup_steps:
            return self.warmup_start_lr + (self.learning_rate - self.warmup_start_lr) * step / self.warmup_steps
        return self.after_warmup(step - self.warmup_steps)

    @abstractmethod
    def after_warmup(self, step: int) -> float:
        """Learning rate at the schedule's own step."""


class Cosine(Schedule):
    """eta_min + (lr - eta_min) (1 + cos(pi t / T)) / 2; Loshchilov and Hutter, "SGDR" (arXiv:1608.03983), eq. 5.

    Args:
        eta_min: rate at the end.
    """

    def __init__(
        self,
        learning_rate: float,
        epochs: int,
        steps_per_epoch: int,
        eta_min: float = 0.0,
        warmup_epoch: float = 0,
        warmup_start_lr: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, epochs, steps_per_epoch, warmup_epoch, warmup_start_lr)
        self.eta_min = eta_min

    def after_warmup(self, step: int) -> float:
        swing = (1 + math.cos(math.pi * min(step, self.decay_steps) / self.decay_steps)) / 2
        return self.eta_min + (self.learning_rate - self.eta_min) * swing


class Polynomial(Schedule):
    """end_lr + (lr - end_lr) (1 - t / T)^power.

    Args:
        end_lr: rate at the end.
        power: exponent.
    """

    def __init__(
        self,
        learning_rate: float,
        epochs: int,
        steps_per_epoch: int,
        end_lr: float = 0.0,
        power: float = 2.0,
        warmup_epoch: float = 0,
        warmup_start_lr: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, epochs, steps_per_epoch, warmup_epoch, warmup_start_lr)
        self.end_lr = end_lr
        self.power = power

    def after_warmup(self, step: int) -> float:
        left = 1 - min(step, self.decay_steps) / self.decay_steps
        return self.end_lr + (self.learning_rate - self.end_lr) * left**self.power


class Linear(Polynomial):
    """A straight line from lr to end_lr: Polynomial with power 1."""

    def __init__(
        self,
        learning_rate: float,
        epochs: int,
        steps_per_epoch: int,
        end_lr: float = 0.0,
        warmup_epoch: float = 0,
        warmup_start_lr: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, epochs, steps_per_epoch, end_lr, 1.0, warmup_epoch, warmup_start_lr)


class Constant(Schedule):
    """The same rate all the time, after the warm-up."""

    def after_warmup(self, step: int) -> float:
        return self.learning_rate


class Step(Schedule):
    """lr * gamma^(number of whole `step_size` epochs since the warm-up).

    Args:
        step_size: epochs between two drops.
        gamma: factor at each drop.
    """

    def __init__(
        self,
        learning_rate: float,
        epochs: int,
        steps_per_epoch: int,
        step_size: int,
        gamma: float = 0.1,
        warmup_epoch: float = 0,
        warmup_start_lr: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, epochs, steps_per_epoch, warmup_epoch, warmup_start_lr)
        if step_size < 1:
            raise ValueError(f"step_size: expected at least 1 epoch, found {step_size}.")
        self.step_size = step_size
        self.gamma = gamma

    def after_warmup(self, step: int) -> float:
        return self.learning_rate * self.gamma ** (step // (self.step_size * self.steps_per_epoch))


class MultiStepDecay(Schedule):
    """lr * gamma^(number of `milestones` passed).

    Args:
        milestones: epochs of the drops, counted from the end of the warm-up, increasing.
        gamma: factor at each drop.
    """

    def __init__(
        self,
        learning_rate: float,
        epochs: int,
        steps_per_epoch: int,
        milestones: Sequence[int],
        gamma: float = 0.1,
        warmup_epoch: float = 0,
        warmup_start_lr: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, epochs, steps_per_epoch, warmup_epoch, warmup_start_lr)
        self.drops = _increasing(milestones, "milestones", steps_per_epoch)
        self.gamma = gamma

    def after_warmup(self, step: int) -> float:
        return self.learning_rate * self.gamma ** bisect_right(self.drops, step)


class Piecewise(Schedule):
    """`values[i]` until epoch `decay_epochs[i]`, the last value afterwards.

    Args:
        decay_epochs: epochs of the changes, counted from the end of the warm-up, increasing.
        values: rates, one more than `decay_epochs`; the warm-up ends at the first.
    """

    def __init__(
        self,
        decay_epochs: Sequence[int],
        values: Sequence[float],
        epochs: int,
        steps_per_epoch: int,
        warmup_epoch: float = 0,
        warmup_start_lr: float = 0.0,
    ) -> None:
        if len(values) != len(decay_epochs) + 1:
            raise ValueError(
                f"values: expected one more than decay_epochs has ({len(decay_epochs) + 1}), found {len(values)}."
            )
        super().__init__(values[0], epochs, steps_per_epoch, warmup_epoch, warmup_start_lr)
        self.changes = _increasing(decay_epochs, "decay_epochs", steps_per_epoch)
        self.values = list(values)

    def after_warmup(self, step: int) -> float:
        return self.values[bisect_right(self.changes, step)]


def _increasing(epochs: Sequence[int], name: str, steps_per_epoch: int) -> list[int]:
    if list(epochs) != sorted(set(epochs)) or (epochs and epochs[0] < 1):
        raise ValueError(f"{name}: expected increasing epochs of at least 1, found {list(epochs)}.")
    return [e * steps_per_epoch for e in epochs]
