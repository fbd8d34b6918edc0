"""What a training tells whoever wants to hear of it.

A subclass of ``Callback`` overrides the events that it needs; the trainer calls them in the order of this file. All
ranks call every event, in the same order, so a callback may use collectives where every rank does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from types import TracebackType

import numpy as np
import paddle

from ppfacerec.core.registry import Registry
from ppfacerec.data.loading.loader import Batch
from ppfacerec.data.pairs.pair_set import PairSet
from ppfacerec.metrics import VerificationResult
from ppfacerec.metrics.evaluation import Evaluation
from ppfacerec.training.state import TrainState

CALLBACKS = Registry("callback")  # that Global.callbacks may name: the user's own, from Global.plugins


class Activity(Enum):
    """What the main thread of a training is at."""

    READING = "reading training data"
    COMPUTING = "computing"
    EXCHANGING = "exchanging with the other processes"
    LOGGING = "writing the log, tables or VisualDL's records"
    SAVING = "writing a checkpoint"
    EVALUATING = "evaluating"


class Callback:
    """Base of what listens to a training; every event does nothing here.

    A callback is a context manager around the whole training, for what it opens and closes.

    Attributes:
        wants_stop: set it to end the training after the present step, with `latest` saved, on all ranks.
    """

    wants_stop: bool = False

    def __enter__(self) -> Callback:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def on_activity(self, activity: Activity) -> None:
        """The main thread begins something that may take long."""

    def on_train_begin(self, state: TrainState) -> None:
        """Before the first batch of this run, which may be the middle of a training."""

    def on_forward(
        self, state: TrainState, batch: Batch, embedding: paddle.Tensor, losses: Mapping[str, float]
    ) -> None:
        """A batch went forward, before its backward: its embeddings (N, D) and losses, "loss" being their sum."""

    def on_gradients(self, state: TrainState) -> None:
        """The gradients of an optimizer step are complete, before it is taken."""

    def on_step(self, state: TrainState) -> None:
        """An optimizer step was taken; its gradients are still there."""

    def on_batch(self, state: TrainState) -> None:
        """A batch of training or of an evaluation is done."""

    def on_log(self, state: TrainState, row: Mapping[str, float]) -> None:
        """Every `print_batch_step` batches: a row of train.csv, means since the last one."""

    def on_evaluate_set(
        self, state: TrainState, name: str, pairs: PairSet, embeddings: np.ndarray, result: VerificationResult
    ) -> None:
        """One verification set was evaluated: embeddings (M, D) of its distinct images."""

    def on_evaluate(self, state: TrainState, epoch: int, evaluation: Evaluation, is_best: bool) -> None:
        """All sets were evaluated, after `epoch`; the network has the weights that were (the average's, with EMA)."""

    def on_epoch(self, state: TrainState, epoch: int) -> None:
        """An epoch is trained and, where it was due, evaluated."""

    def on_save(self, state: TrainState, names: Sequence[str]) -> None:
        """Checkpoints of these names are complete."""

    def on_stop(self, state: TrainState) -> None:
        """Training ends before its last epoch, as a callback or a signal asked for it; `latest` is saved."""
