"""Events of a training, and the base class of their receivers.

A subclass of ``Callback`` overrides the events that it needs; the trainer calls them in the order of this file. All
ranks receive all events in the same order, so that a callback may use collectives if it does so on every rank.
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

CALLBACKS = Registry("callback")  # for Global.callbacks: the user's own, from Global.plugins


class Activity(Enum):
    """Current activity of a training's main thread."""

    READING = "reading training data"
    COMPUTING = "computing"
    EXCHANGING = "exchanging with the other processes"
    LOGGING = "writing the log, tables or VisualDL's records"
    SAVING = "writing a checkpoint"
    EVALUATING = "evaluating"


class Callback:
    """Base class of callbacks; its event handlers do nothing.

    A callback is a context manager around the whole training, for resources to open and close.

    Attributes:
        wants_stop: set it to end the training on all ranks after the current step, with `latest` saved.
    """

    wants_stop: bool = False

    def __enter__(self) -> Callback:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def on_activity(self, activity: Activity) -> None:
        """The main thread begins an activity that may take long."""

    def on_train_begin(self, state: TrainState) -> None:
        """Called before the first batch of this run, which may resume a training."""

    def on_forward(
        self, state: TrainState, batch: Batch, embedding: paddle.Tensor, losses: Mapping[str, float]
    ) -> None:
        """Called before a batch's backward, with its embeddings (N, D) and losses; "loss" is their sum."""

    def on_gradients(self, state: TrainState) -> None:
        """Called before an optimizer step, once its gradients are complete."""

    def on_step(self, state: TrainState) -> None:
        """Called after an optimizer step, before its gradients are cleared."""

    def on_batch(self, state: TrainState) -> None:
        """Called after each batch of training or evaluation."""

    def on_log(self, state: TrainState, row: Mapping[str, float]) -> None:
        """Called every `print_batch_step` batches with a row of train.csv: means since the last one.

        Its keys are epoch, iter, global_step, lr, each loss by its name, loss (their sum), batch_cost and reader_cost
        (seconds), ips (samples per second) and eta (seconds).
        """

    def on_evaluate_set(
        self, state: TrainState, name: str, pairs: PairSet, embeddings: np.ndarray, result: VerificationResult
    ) -> None:
        """Called after each verification set, with the embeddings (M, D) of its distinct images."""

    def on_evaluate(self, state: TrainState, epoch: int, evaluation: Evaluation, is_best: bool) -> None:
        """Called once all sets are evaluated after `epoch`; the network has the evaluated weights (EMA's, if any)."""

    def on_epoch(self, state: TrainState, epoch: int) -> None:
        """Called after an epoch and its evaluation, if one was due."""

    def on_save(self, state: TrainState, names: Sequence[str]) -> None:
        """Called when checkpoints of these names are complete."""

    def on_stop(self, state: TrainState) -> None:
        """Called if a callback or a signal ends the training early; `latest` is saved."""
