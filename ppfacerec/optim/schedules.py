"""Learning-rate schedules: functions of the number of finished optimizer steps, so there is no state to save.

Every schedule may begin with a linear warm-up of `warmup_epoch` epochs from `warmup_start_lr` to `learning_rate`; the
schedule proper then starts at its own step 0, as PaddleClas's do (`LinearWarmup` over the decay).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence

from ppfacerec.ranges import require_ranges


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
        require_ranges(
            learning_rate=learning_rate, epochs=epochs, warmup_epoch=warmup_epoch, warmup_start_lr=warmup_start_lr
        )
        self._end_below_start("warmup_start_lr", warmup_start_lr, learning_rate)
        self.learning_rate = learning_rate
        self.epochs, self.warmup_epoch = epochs, min(warmup_epoch, epochs)
        self.steps_per_epoch = steps_per_epoch
        self.warmup_steps = round(self.warmup_epoch * steps_per_epoch)
        self.warmup_start_lr = warmup_start_lr
        self.decay_steps = max(1, round((epochs - self.warmup_epoch) * steps_per_epoch))
        self._remarks: list[str] = []
        if warmup_epoch >= epochs:
            self._remarks.append(f"warmup_epoch {warmup_epoch:g}: all {epochs} epochs are warm-up, nothing follows it")

    def __call__(self, step: int) -> float:
        """Learning rate of the step after `step` finished ones."""
        if step < self.warmup_steps:
            return self.warmup_start_lr + (self.learning_rate - self.warmup_start_lr) * step / self.warmup_steps
        return self.after_warmup(step - self.warmup_steps)

    def remarks(self) -> list[str]:
        """What is allowed and probably not meant, for the log."""
        return self._remarks

    def _end_below_start(self, name: str, rate: float, learning_rate: float) -> None:
        if rate > learning_rate:
            raise ValueError(f"{name}: expected at most the learning rate {learning_rate}, found {rate}.")

    def _drops(self, epochs: Sequence[int], name: str) -> list[int]:
        """The steps of changes at these epochs."""
        if list(epochs) != sorted(set(epochs)) or (epochs and epochs[0] < 1):
            raise ValueError(f"{name}: expected increasing epochs of at least 1, found {list(epochs)}.")
        late = [epoch for epoch in epochs if epoch + self.warmup_epoch >= self.epochs]
        if late:
            after = f" after {self.warmup_epoch:g} of warm-up" if self.warmup_epoch else ""
            self._remarks.append(f"{name} {late}{after} are not reached in {self.epochs} epochs")
        return [epoch * self.steps_per_epoch for epoch in epochs]

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
        require_ranges(eta_min=eta_min)
        self._end_below_start("eta_min", eta_min, learning_rate)
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
        require_ranges(end_lr=end_lr, power=power)
        self._end_below_start("end_lr", end_lr, learning_rate)
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
        require_ranges(step_size=step_size, gamma=gamma)
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
        require_ranges(gamma=gamma)
        self.drops = self._drops(milestones, "milestones")
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
        require_ranges(values=values)
        self.changes = self._drops(decay_epochs, "decay_epochs")
        self.values = list(values)

    def after_warmup(self, step: int) -> float:
        return self.values[bisect_right(self.changes, step)]
