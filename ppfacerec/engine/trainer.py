"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Optional

import paddle
from paddle import nn

from ppfacerec import distributed
from ppfacerec.data.loader import Batch, TrainLoader
from ppfacerec.engine.checkpoint import Progress
from ppfacerec.engine.ema import EMA
from ppfacerec.engine.evaluator import Evaluation, Evaluator
from ppfacerec.engine.health import Health, Length
from ppfacerec.engine.saver import Saver
from ppfacerec.engine.stop_signals import StopSignals
from ppfacerec.engine.visuals import Visuals
from ppfacerec.engine.watchdog import Watchdog
from ppfacerec.heads import MarginHead
from ppfacerec.log import CsvLog, Meter, duration, logger, progress_bar
from ppfacerec.losses import WeightedSum
from ppfacerec.optim.sparse_update import SparseUpdate
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.runtime import MixedPrecision, agree_on_overflow, seed_step, to_network_input


class TrainingStopped(Exception):  # noqa: N818 (no error: somebody asked for it)
    """A person or the system asked to stop; `latest` is saved."""


@dataclass(frozen=True)
class TrainingPlan:
    """The numbers of ``Global`` that the loop reads; see docs/config.md."""

    output_dir: Path
    epochs: int
    eval_interval: int
    print_batch_step: int
    update_freq: int
    seed: int
    eval_before_train: bool = False
    bn_sync: Literal["average", "broadcast"] = "average"
    max_bad_steps: Optional[int] = None
    watchdog_minutes: Optional[float] = None


class Trainer:
    """Trains a recognizer: forward, backward, step, log, evaluate, save.

    Args:
        recognizer: backbone and head.
        losses: of the head's logits.
        optimizer: over the trainable parameters.
        schedule: finished optimizer steps -> learning rate.
        loader: training batches.
        evaluator: None trains without evaluation.
        precision: AMP or not.
        plan: intervals and lengths.
        ema: moving average, used for evaluation and best_model, or None.
        progress: where to go on.
        visuals: what VisualDL gets of it.
        saver: of checkpoints.
        sparse: what updates the head's sampled rows, or None.
    """

    def __init__(
        self,
        recognizer: FaceRecognizer,
        losses: WeightedSum,
        optimizer: paddle.optimizer.Optimizer,
        schedule: Callable[[int], float],
        loader: TrainLoader,
        evaluator: Optional[Evaluator],
        precision: MixedPrecision,
        plan: TrainingPlan,
        ema: Optional[EMA],
        progress: Progress,
        visuals: Visuals,
        saver: Saver,
        sparse: Optional[SparseUpdate] = None,
    ) -> None:
        self.recognizer, self.losses, self.optimizer, self.schedule = recognizer, losses, optimizer, schedule
        self.loader, self.evaluator, self.precision, self.plan = loader, evaluator, precision, plan
        self.ema, self.progress, self.visuals, self.saver, self.sparse = ema, progress, visuals, saver, sparse
        self._is_main = distributed.rank() == 0
        self._csv = CsvLog(plan.output_dir / "train.csv" if self._is_main else None)
        self._eval_csv = CsvLog(plan.output_dir / "eval.csv" if self._is_main else None)
        self._trained = [p for p in recognizer.parameters() if not p.stop_gradient]
        self._statistics = _statistics(recognizer.backbone)
        self._signals = StopSignals()
        self._meters: dict[str, Meter] = {}
        length = Length(plan.epochs, len(loader), plan.update_freq)
        self.health = Health(recognizer, precision, schedule, length, plan.output_dir, plan.max_bad_steps)
        self.watchdog = Watchdog(plan.watchdog_minutes, plan.output_dir, self.health.record)
        if evaluator:
            evaluator.on_batch = self.watchdog.beat
        self.on_best: Callable[[Evaluation], None] = lambda evaluation: None  # called where best_model is saved

    def forget_later_rows(self) -> None:
        """Drop from the tables what this run, which goes on from before it, will write again."""
        now = (self.progress.epoch, self.progress.iteration)
        self._csv.keep(lambda row: (int(row["epoch"]), int(row["iter"])) < now)
        anew = self.progress == Progress()  # then epoch 0 is evaluated again, too
        self._eval_csv.keep(lambda row: not anew and int(row["epoch"]) < self.progress.epoch)

    def train(self) -> dict[int, Evaluation]:
        """Run to the last epoch; return the evaluations by epoch (0: before training).

        Raises:
            TrainingStopped: after SIGINT or SIGTERM; `latest` holds what was reached.
            ValueError: the loss is not finite, or a sample is bad.
        """
        evaluations: dict[int, Evaluation] = {}
        self.health.begin(self.progress.global_step)
        with self.watchdog, closing(self.visuals.log), self._signals, self.saver:
            if self.evaluator and self.plan.eval_before_train and self.progress == Progress():
                evaluations[0] = self._evaluate(0)
            while self.progress.epoch <= self.plan.epochs:
                epoch = self.progress.epoch
                self._train_epoch(epoch)
                last = epoch == self.plan.epochs
                if self.evaluator and (epoch % self.plan.eval_interval == 0 or last):
                    self.saver.before_evaluation()
                    evaluations[epoch] = self._evaluate(epoch)
                self.progress.epoch, self.progress.iteration = epoch + 1, 0
                self.saver.after_epoch(epoch, last)
                if not last and distributed.any_rank(self._signals.requested):  # in the evaluation
                    self.saver.finish()
                    raise TrainingStopped
        return evaluations

    def _train_epoch(self, epoch: int) -> None:
        self.recognizer.train()
        num_batches, first = len(self.loader), self.progress.iteration
        began = time.perf_counter()
        batches = progress_bar(
            self.loader.epoch(epoch, first), num_batches, f"Epoch {epoch}", "batch", first, in_log=False
        )
        for iteration, batch in enumerate(batches, first):
            read = time.perf_counter()
            rate = self.schedule(self.progress.global_step)
            self.optimizer.set_lr(rate)
            losses = self._forward_backward(batch, epoch, iteration)
            steps = (iteration + 1) % self.plan.update_freq == 0 or iteration + 1 == num_batches
            if steps:
                self._update()
            self.progress.iteration = iteration + 1
            self.watchdog.beat()
            done = time.perf_counter()
            self._meter(losses, len(batch.indices), read - began, done - began)
            if iteration % self.plan.print_batch_step == 0 or iteration + 1 == num_batches:
                self._log(epoch, iteration, num_batches, rate)
                self.health.check()
            if steps and self.saver.after_step(self._signals.requested):
                raise TrainingStopped
            began = time.perf_counter()

    def _forward_backward(self, batch: Batch, epoch: int, iteration: int) -> dict[str, float]:
        """Add this batch's share to the gradients; return its losses."""
        seed_step(self.plan.seed, epoch * len(self.loader) + iteration, distributed.rank())
        images = to_network_input(batch.images, self.loader.pipeline.normalize)
        with self.precision.autocast():
            embedding = self.recognizer(images)  # (N, D)
        if isinstance(self.recognizer.head, MarginHead):
            self.recognizer.head.begin_step(self.plan.seed, self.progress.global_step)
        losses = self.losses(self.recognizer.scores(embedding, batch.labels), batch.labels)
        values = {name: value.item() for name, value in losses.items()}
        if not math.isfinite(values["loss"]):
            files = [self.loader.dataset.where(int(i)) for i in batch.indices]
            self.health.loss_not_finite(values, embedding, files, (epoch, iteration))
        self.health.forward(values, embedding, self.optimizer.get_lr())
        self.visuals.saw_batch(batch, embedding, self.progress.global_step + 1)
        self.precision.scaler.scale(losses["loss"] * self._share(batch, iteration)).backward()
        return values

    def _share(self, batch: Batch, iteration: int) -> float:
        """This batch's part of the mean over all samples of the optimizer step, times the number of ranks.

        Uneven last batches and accumulated ones then add up to the gradient of one large batch.
        """
        first = iteration - iteration % self.plan.update_freq
        steps = range(first, min(first + self.plan.update_freq, len(self.loader)))
        together = sum(self.loader.sampler.step_size(step) for step in steps)
        return len(batch.indices) * distributed.world_size() / together

    def _update(self) -> None:
        trained = [p for p in self._trained if p.grad is not None]
        distributed.average_tensors(p.grad for p in trained if not p.is_distributed)
        self._equal_statistics()
        if self.precision.level is not None:
            agree_on_overflow(trained)
        self.health.before_step()
        with self.sparse.rows_of_step() if self.sparse else nullcontext():
            self.precision.scaler.step(self.optimizer)
        self.precision.scaler.update()
        self.health.after_step()
        self.visuals.saw_gradients(self.progress.global_step + 1)
        self.optimizer.clear_grad(set_to_zero=False)  # zeros would be memory, and an addition in the next step
        self.progress.global_step += 1
        if self.ema:
            self.ema.update(self.progress.global_step)

    def _evaluate(self, epoch: int) -> Evaluation:
        assert self.evaluator is not None
        with self.ema.applied() if self.ema else nullcontext():
            watch = partial(self.visuals.saw_set, self.progress.global_step)
            evaluation = self.evaluator.evaluate(self.recognizer.backbone, watch)
            accuracy = evaluation.average_accuracy
            if self.progress.best_accuracy is None or accuracy > self.progress.best_accuracy:
                self.progress.best_accuracy, self.progress.best_epoch = accuracy, epoch
                self.saver.save("best_model")
                self.on_best(evaluation)
        logger.info(
            "[Eval][Epoch %d/%d] average accuracy %.5f, best %.5f (epoch %d)",
            epoch, self.plan.epochs, accuracy, self.progress.best_accuracy, self.progress.best_epoch,
        )  # fmt: skip
        row = {name: result.accuracy_mean for name, result in evaluation.results.items()}
        self._eval_csv.write({"epoch": epoch, "global_step": self.progress.global_step, **row, "average": accuracy})
        self.visuals.saw_evaluation(self.progress.global_step, evaluation)
        if self._is_main:
            evaluation.save(self.plan.output_dir / "eval.json")
        return evaluation

    def _equal_statistics(self) -> None:
        """Make the batch-norm statistics of the ranks equal, each of which has seen other images.

        After every step, so that it makes no difference to the training when it is saved or evaluated.
        """
        if self.plan.bn_sync == "average":
            distributed.average_tensors(self._statistics)
        else:
            distributed.broadcast_tensors(self._statistics)

    def _meter(self, losses: dict[str, float], num_samples: int, reader_cost: float, batch_cost: float) -> None:
        for name, value in losses.items():
            self._meters.setdefault(name, Meter()).update(value, num_samples)
        self._meters.setdefault("reader_cost", Meter()).update(reader_cost)
        self._meters.setdefault("batch_cost", Meter()).update(batch_cost)
        self._meters.setdefault("samples", Meter()).update(num_samples)

    def _log(self, epoch: int, iteration: int, num_batches: int, rate: float) -> None:
        """One line of the means since the line before, the same as a row of train.csv."""
        means = {name: meter.mean for name, meter in self._meters.items()}
        for meter in self._meters.values():
            meter.reset()
        losses = {k: v for k, v in means.items() if k not in ("reader_cost", "batch_cost", "samples")}
        ips = means["samples"] * distributed.world_size() / means["batch_cost"]
        left = (self.plan.epochs - epoch) * num_batches + num_batches - iteration - 1
        eta = left * means["batch_cost"]
        shown = ", ".join(f"{name}: {value:.5f}" for name, value in losses.items())
        logger.info(
            "[Train][Epoch %d/%d][Iter: %d/%d] lr: %.8f, %s, batch_cost: %.5fs, reader_cost: %.5f, "
            "ips: %.2f samples/s, eta: %s",
            epoch, self.plan.epochs, iteration, num_batches, rate, shown, means["batch_cost"], means["reader_cost"],
            ips, duration(eta),
        )  # fmt: skip
        row = {"epoch": epoch, "iter": iteration, "global_step": self.progress.global_step, "lr": rate, **losses}
        row |= {"batch_cost": means["batch_cost"], "reader_cost": means["reader_cost"], "ips": ips, "eta": round(eta)}
        self._csv.write(row)
        self.visuals.log.scalars({f"train/{k}": v for k, v in row.items() if k not in ("epoch", "iter", "global_step")},
                                 self.progress.global_step)  # fmt: skip


def _statistics(backbone: nn.Layer) -> list[paddle.Tensor]:
    """What training changes without a gradient: batch-norm statistics, parameters in Paddle, and other buffers."""
    buffers = {id(buffer) for buffer in backbone.buffers()}
    return [
        tensor
        for name, tensor in backbone.state_dict().items()
        if "float" in str(tensor.dtype) and (id(tensor) in buffers or name.endswith(("_mean", "_variance")))
    ]
