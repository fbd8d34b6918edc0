"""Measure the health of a running training, compare it with warning signs, report each once and record it."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import paddle

from ppfacerec.core import distributed
from ppfacerec.core.log import CsvLog, logger
from ppfacerec.data.loading.loader import Batch
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.training.callbacks import Callback
from ppfacerec.training.monitoring.warning_signs import (
    Alarm,
    Collapsed,
    Growing,
    LossStuck,
    saturated,
    too_many_skipped,
    zero_rate,
)
from ppfacerec.training.state import TrainState

_SAMPLED_WEIGHTS = 16  # of the backbone, whose norms are monitored
_SAMPLED_STEPS = 1000  # of a schedule, checked for a learning rate of 0


class Health(Callback):
    """Monitor one run. A healthy one leaves no ``health.csv``.

    Costly values (embeddings, gradients' norm) are measured only in logged steps. In every step the sum of the
    gradients is checked: it is not finite if any of them is not.

    Args:
        state: of the training.
        num_batches, num_steps: of the whole training.
        where: index of a sample -> its file, for messages.
        folder: for ``health.csv``; the other ranks write ``health_rank<n>.csv``.
        max_bad_steps: skipped steps in a row that end the run; None: unlimited.
    """

    def __init__(
        self,
        state: TrainState,
        num_batches: int,
        num_steps: int,
        where: Callable[[int], str],
        folder: Path,
        *,
        max_bad_steps: int | None = None,
    ) -> None:
        self._recognizer, self._precision, self._where = state.recognizer, state.precision, where
        self._schedule = state.schedule or (lambda step: float(state.optimizer.get_lr()))
        self._folder, rank = folder, distributed.rank()
        self._csv = CsvLog(folder / (f"health_rank{rank}.csv" if rank else "health.csv"))
        self._reports = rank == 0
        self._max_bad_steps, self._skipped = max_bad_steps, 0
        self._stuck, self._collapsed = LossStuck(num_batches, state.head.guessing_loss()), Collapsed()
        self._trained = state.trained()
        matrices = [p for name, p in self._trained if p.ndim > 1 and name.startswith("backbone.")]
        self._sampled = matrices[:: max(1, len(matrices) // _SAMPLED_WEIGHTS)]
        self._growing = Growing()
        self._alarms: dict[str, Alarm] = defaultdict(Alarm)
        self._num_steps = num_steps
        self._highest_rate = max(map(self._schedule, _spread(num_steps)), default=0.0)
        self._step, self._batches, self._rate = 0, 0, 0.0
        self._loss_sum, self._loss_count = 0.0, 0
        self._embedding: paddle.Tensor | None = None
        self._gradient_norm: float | None = None
        self._wants_norm = True

    def on_train_begin(self, state: TrainState) -> None:
        """Check the schedule from the current optimizer step on."""
        self._step = step = state.progress.global_step
        self._growing(step, _norms(self._sampled), 0.0)  # the reference for later steps
        for at in _spread(self._num_steps, step):
            if self._schedule(at) == 0 and at > 0:
                first = at
                while first - 1 >= step and self._schedule(first - 1) == 0:
                    first -= 1
                until = at + 1
                while until < self._num_steps and self._schedule(until) == 0:
                    until += 1
                self._report("learning_rate_zero", zero_rate(0.0, first, until, self._num_steps))
                return

    def on_forward(
        self, state: TrainState, batch: Batch, embedding: paddle.Tensor, losses: Mapping[str, float]
    ) -> None:
        """Raise a ValueError if the loss is not finite."""
        if not math.isfinite(losses["loss"]):
            self._loss_not_finite(state, batch, embedding, losses)
        rate = float(state.optimizer.get_lr())
        self._batches, self._rate, self._embedding = self._batches + 1, rate, embedding.detach()
        loss = losses.get("CELoss", math.nan)  # the value of guessing is unknown for other losses
        self._loss_sum, self._loss_count = self._loss_sum + loss, self._loss_count + 1
        self._stuck.add(loss, rate / self._highest_rate if self._highest_rate > 0 else 0.0)

    def _loss_not_finite(
        self, state: TrainState, batch: Batch, embedding: paddle.Tensor, losses: Mapping[str, float]
    ) -> NoReturn:
        """End the run with all facts that help to find the cause; the batch's files are listed in a file."""
        files, progress = [self._where(int(index)) for index in batch.indices], state.progress
        path = self._folder / f"not_finite_rank{distributed.rank()}.txt"
        listed = f"are listed in {path}"
        try:
            path.write_text("\n".join(files) + "\n", encoding="utf-8")
        except OSError as error:
            listed = f"could not be listed in {path} ({error.strerror})"
        self._rate = self._schedule(self._step)
        self._end("loss_not_finite", (
            f"The loss is not finite in epoch {progress.epoch}, iteration {progress.iteration} (optimizer step "
            f"{self._step}): {losses}. "
            f"Learning rate {self._rate:.3g}, {norms_of(self._recognizer, embedding)}, loss scale "
            f"{self._precision.loss_scale}. The {len(files)} files of the batch {listed}, first: {files[0]}. "
            "Usual causes: a learning rate too high (try a tenth, or a longer warm-up), Optimizer.clip_norm not set, a "
            "damaged image."
        ))  # fmt: skip

    @paddle.no_grad()
    def on_gradients(self, state: TrainState) -> None:
        """Raise a ValueError if a gradient is not finite and no loss scaler skips the step."""
        gradients = {name: p.grad for name, p in self._trained if p.grad is not None}
        if self._precision.level is not None or not gradients:
            return
        total = paddle.stack([paddle.sum(g).astype("float32").reshape([]) for g in gradients.values()]).sum()
        if not math.isfinite(total.item()):
            bad = [name for name, g in gradients.items() if not paddle.isfinite(g).all().item()]
            if bad:  # a sum of finite numbers may overflow
                self._end("gradient_not_finite", self._bad_gradients(bad, len(gradients)))
        if self._wants_norm:
            backbone = [g for name, g in gradients.items() if name.startswith("backbone.")]
            self._gradient_norm = math.sqrt(sum(x**2 for x in _norms(backbone))) if backbone else None
            self._wants_norm = False

    def on_step(self, state: TrainState) -> None:
        """Raise a ValueError if the loss scaler has skipped too many steps in a row."""
        self._step += 1
        self._skipped = self._skipped + 1 if self._precision.skipped_step else 0
        message = too_many_skipped(self._skipped, self._max_bad_steps, self._precision.loss_scale)
        if message:
            self._end("steps_skipped", message)

    def on_log(self, state: TrainState, row: Mapping[str, float]) -> None:
        """Compare the measurements since the last row with the warning signs."""
        if not self._reports or self._embedding is None:
            return
        embeddings = self._embedding.astype("float32").numpy().astype(np.float64)
        cosine, norm = mean_cosine(embeddings), float(np.linalg.norm(embeddings, axis=1).mean())
        dimensions = effective_dimensions(embeddings)
        if len(embeddings) > 2:
            self._report("embeddings_collapsed", self._collapsed(self._batches, cosine, dimensions, norm))
        self._report("logits_saturated", saturated(self._loss_sum / self._loss_count, self._gradient_norm))
        self._report("loss_stuck", self._stuck(self._rate))
        self._report("weights_explode", self._growing(self._step, _norms(self._sampled), self._rate))
        self._loss_sum, self._loss_count, self._wants_norm = 0.0, 0, True

    def record(self, condition: str, message: str) -> None:
        """Write a row of health.csv."""
        self._csv.write({
            "global_step": self._step, "batch": self._batches, "lr": self._rate, "condition": condition,
            "message": message,
        })  # fmt: skip

    def _report(self, condition: str, message: str | None) -> None:
        if self._alarms[condition](message, self._step) and message is not None:
            logger.warning("Health, %s: %s", condition, message)
            self.record(condition, message)

    def _end(self, condition: str, message: str) -> NoReturn:
        try:
            self.record(condition, message)
        except ValueError as error:  # a full disk must not hide why the run ends
            message = f"{message} {error}"
        raise ValueError(message)

    def _bad_gradients(self, names: list[str], total: int) -> str:
        assert self._embedding is not None
        return (
            f"The gradient of {names[0]} is not finite in optimizer step {self._step} ({len(names)} of {total} "
            f"parameters), though the loss is. The step was not taken. Learning rate {self._rate:.3g}, "
            f"{norms_of(self._recognizer, self._embedding)}. Usual causes: a learning rate too high (try a tenth, or a "
            "longer warm-up), Optimizer.clip_norm not set, a layer or loss of a plugin whose slope is infinite (sqrt "
            "or norm of 0)."
        )


def _norms(tensors: Sequence[paddle.Tensor]) -> list[float]:
    """Return the L2 norm of each tensor."""
    squares = [paddle.sum(t.detach().astype("float32") ** 2).reshape([]) for t in tensors]
    return paddle.sqrt(paddle.stack(squares)).tolist() if squares else []


def _spread(stop: int, start: int = 0) -> range:
    """Return about a thousand evenly spaced steps, or all if there are fewer."""
    return range(start, stop, max(1, (stop - start) // _SAMPLED_STEPS))


def mean_cosine(embeddings: np.ndarray) -> float:
    """Mean cosine of all pairs of embeddings (N, D); that of a zero row is 0."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.where(lengths > 0, lengths, 1)
    count = len(unit)
    return float((np.sum(unit.sum(0) ** 2) - np.sum(unit**2)) / max(1, count * (count - 1)))


def effective_dimensions(embeddings: np.ndarray) -> float:
    """(sum of l)^2 / sum of l^2 of the eigenvalues l of the embeddings' (N, D) covariance.

    D if all eigenvalues are equal, 1 on a line, 0 without variance.
    """
    centred = embeddings - embeddings.mean(0)
    gram = centred @ centred.T  # (N, N), the same eigenvalues
    if np.trace(gram) <= 1e-12 * np.sum(embeddings**2):
        return 0.0
    return float(np.trace(gram) ** 2 / np.sum(gram**2))


def norms_of(recognizer: FaceRecognizer, embedding: paddle.Tensor) -> str:
    """Describe the range of the embeddings' norms, the largest trained weight, and non-finite parameters."""
    norms = np.linalg.norm(embedding.detach().astype("float32").numpy(), axis=1)
    trained = [p.detach() for p in recognizer.parameters() if not p.stop_gradient]
    largest = max(float(p.abs().max().item()) for p in trained)
    bad = [name for name, p in recognizer.named_parameters() if not paddle.isfinite(p).all().item()]
    return (
        f"embedding norms {norms.min():.3g} to {norms.max():.3g}, largest weight {largest:.3g}, "
        f"{len(bad)} parameters not finite{' (' + bad[0] + ', ...)' if bad else ''}"
    )
