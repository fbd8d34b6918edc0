"""Learning-rate schedules: functions of the number of finished optimizer steps, so there is no state to save.

All schedules share a linear warm-up; each class defines only the curve after it. The curve starts at its own step 0
when the warm-up ends, as in PaddleClas (`LinearWarmup` over the decay).
"""

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import ClassVar

from ppfacerec.core.ranges import require_ranges


@dataclass(kw_only=True)
class Schedule(ABC):
    """Linear warm-up, then `after_warmup`, the curve that a subclass defines.

    Args:
        learning_rate: the rate at the end of the warm-up.
        epochs: length of the training in epochs, including warm-up.
        steps_per_epoch: optimizer steps per epoch.
        warmup_epoch: length of the warm-up in epochs, possibly fractional; at most the length of the training.
        warmup_start_lr: rate at step 0 of the warm-up.
    """

    learning_rate: float
    epochs: int
    steps_per_epoch: int
    warmup_epoch: float = 0
    warmup_start_lr: float = 0.0

    def __post_init__(self) -> None:
        require_ranges(**{one.name: getattr(self, one.name) for one in fields(self)})
        for name in ("warmup_start_lr", "eta_min", "end_lr"):
            if getattr(self, name, 0) > self.learning_rate:
                raise ValueError(
                    f"{name}: expected at most the learning rate {self.learning_rate}, found {getattr(self, name)}."
                )
        warmup = min(self.warmup_epoch, self.epochs)
        self.warmup_steps = round(warmup * self.steps_per_epoch)
        self.decay_steps = max(1, round((self.epochs - warmup) * self.steps_per_epoch))

    def __call__(self, step: int) -> float:
        """Return the learning rate of the step after `step` finished ones."""
        if step < self.warmup_steps:
            return self.warmup_start_lr + (self.learning_rate - self.warmup_start_lr) * step / self.warmup_steps
        return self.after_warmup(step - self.warmup_steps)

    @abstractmethod
    def after_warmup(self, step: int) -> float:
        """Return the learning rate `step` steps after the end of the warm-up."""

    def remarks(self) -> list[str]:
        """Return warnings about settings that are allowed but probably unintended."""
        if self.warmup_epoch < self.epochs:
            return []
        return [f"warmup_epoch {self.warmup_epoch:g}: all {self.epochs} epochs are warm-up, nothing follows it"]


@dataclass(kw_only=True)
class Cosine(Schedule):
    """eta_min + (lr - eta_min) (1 + cos(pi t / T)) / 2; Loshchilov and Hutter, "SGDR" (arXiv:1608.03983), eq. 5.

    Args:
        eta_min: rate at the end.
    """

    eta_min: float = 0.0

    def after_warmup(self, step: int) -> float:
        swing = (1 + math.cos(math.pi * min(step, self.decay_steps) / self.decay_steps)) / 2
        return self.eta_min + (self.learning_rate - self.eta_min) * swing


@dataclass(kw_only=True)
class Polynomial(Schedule):
    """end_lr + (lr - end_lr) (1 - t / T)^power.

    Args:
        end_lr: rate at the end.
        power: exponent.
    """

    end_lr: float = 0.0
    power: float = 2.0

    def after_warmup(self, step: int) -> float:
        left = 1 - min(step, self.decay_steps) / self.decay_steps
        return self.end_lr + (self.learning_rate - self.end_lr) * left**self.power


@dataclass(kw_only=True)
class Linear(Polynomial):
    """Linear decay from lr to end_lr: Polynomial with power 1."""

    power: float = field(default=1.0, init=False)


@dataclass(kw_only=True)
class Constant(Schedule):
    """Constant learning rate after the warm-up."""

    def after_warmup(self, step: int) -> float:
        return self.learning_rate


@dataclass(kw_only=True)
class Step(Schedule):
    """lr * gamma^(number of whole `step_size` epochs since the warm-up).

    Args:
        step_size: epochs between drops.
        gamma: factor at each drop.
    """

    step_size: int
    gamma: float = 0.1

    def after_warmup(self, step: int) -> float:
        return self.learning_rate * self.gamma ** (step // (self.step_size * self.steps_per_epoch))


@dataclass(kw_only=True)
class _AtEpochs(Schedule):
    """Base class of schedules that change at given epochs, counted from the end of the warm-up."""

    changes_at: ClassVar[str]  # name of the argument with the epochs

    def __post_init__(self) -> None:
        super().__post_init__()
        self._changes: list[int] = list(getattr(self, self.changes_at))
        if any(later <= epoch for epoch, later in pairwise([0, *self._changes])):
            raise ValueError(f"{self.changes_at}: expected increasing epochs of at least 1, found {self._changes}.")

    def _num_passed(self, step: int) -> int:
        return bisect_right(self._changes, step // self.steps_per_epoch)

    def remarks(self) -> list[str]:
        late = [epoch for epoch in self._changes if epoch + self.warmup_epoch >= self.epochs]
        after = f" after {self.warmup_epoch:g} of warm-up" if self.warmup_epoch else ""
        unreached = [f"{self.changes_at} {late}{after} are not reached in {self.epochs} epochs"] if late else []
        return super().remarks() + unreached


@dataclass(kw_only=True)
class MultiStepDecay(_AtEpochs):
    """lr * gamma^(number of `milestones` passed).

    Args:
        milestones: epochs of the drops, increasing.
        gamma: factor at each drop.
    """

    changes_at = "milestones"
    milestones: Sequence[int]
    gamma: float = 0.1

    def after_warmup(self, step: int) -> float:
        return self.learning_rate * self.gamma ** self._num_passed(step)


@dataclass(kw_only=True)
class Piecewise(_AtEpochs):
    """`values[i]` until epoch `decay_epochs[i]`, the last value afterwards.

    Args:
        decay_epochs: epochs of the changes, increasing.
        values: rates, one more than `decay_epochs`; the warm-up ends at the first.
    """

    changes_at = "decay_epochs"
    learning_rate: float = field(default=0.0, init=False)
    decay_epochs: Sequence[int]
    values: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.decay_epochs) + 1:
            raise ValueError(
                f"values: expected one more than decay_epochs has ({len(self.decay_epochs) + 1}), found "
                f"{len(self.values)}."
            )
        self.learning_rate = self.values[0]
        super().__post_init__()

    def after_warmup(self, step: int) -> float:
        return self.values[self._num_passed(step)]
