"""The state of a training in one object, which is trained, saved, compared and resumed."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import paddle

from ppfacerec.core.device.runtime import MixedPrecision
from ppfacerec.heads import HeadTraits
from ppfacerec.optim.sparse_update import SparseUpdate
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.training.ema import EMA


@dataclass
class Progress:
    """Position in a training."""

    epoch: int = 1  # the epoch being trained, from 1
    iteration: int = 0  # finished batches of the epoch
    global_step: int = 0  # finished optimizer steps over all epochs
    best_accuracy: float | None = None  # highest average accuracy so far
    best_epoch: int = 0  # the epoch that reached it


@dataclass
class TrainState:
    """Network, optimizer, precision, average and progress of one training."""

    recognizer: FaceRecognizer  # its head is prepared (``HeadTraits.prepare``) before the optimizer is built
    optimizer: paddle.optimizer.Optimizer
    schedule: Callable[[int], float] | None = None  # finished optimizer steps -> learning rate; None: the optimizer's
    precision: MixedPrecision = field(default_factory=MixedPrecision)
    ema: EMA | None = None  # average of the weights, for evaluation and best_model
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        active = self.head.active
        self.sparse = SparseUpdate(active, self.optimizer) if active is not None else None

    @property
    def head(self) -> HeadTraits:
        """What the head supports besides scores; the defaults for a plain layer."""
        return self.recognizer.traits

    def trained(self) -> list[tuple[str, paddle.Tensor]]:
        """Return the parameters that the optimizer updates, with their names."""
        return [(name, p) for name, p in self.recognizer.named_parameters() if not p.stop_gradient]

    def set_learning_rate(self) -> float:
        """Set the optimizer's learning rate from the schedule for the next step, and return it."""
        if self.schedule is not None:
            self.optimizer.set_lr(self.schedule(self.progress.global_step))
        return float(self.optimizer.get_lr())

    def apply_gradients(self) -> None:
        """Take an optimizer step, keep the gradients, and update the EMA."""
        with self.sparse.rows_of_step() if self.sparse else nullcontext():
            self.precision.scaler.step(self.optimizer)
        self.precision.scaler.update()
        self.progress.global_step += 1
        if self.ema:
            self.ema.update(self.progress.global_step)
