"""The training loop."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import paddle

from ppfacerec.core import distributed
from ppfacerec.core.device.runtime import agree_on_overflow, seed_step
from ppfacerec.core.log import Meters, logger, progress_bar
from ppfacerec.data.loading.loader import Batch, TrainLoader
from ppfacerec.data.transforms.network_input import to_network_input
from ppfacerec.evaluation.evaluator import Evaluation, Evaluator
from ppfacerec.training.callbacks import Activity, Callback
from ppfacerec.training.checkpoints.saver import NoSaver, Saver
from ppfacerec.training.replicas import Replicas
from ppfacerec.training.state import Progress, TrainState


class TrainingStopped(Exception):  # noqa: N818 (not an error: it was requested)
    """A callback, a user or the system requested a stop; `latest` is saved. `evaluations` are this run's, by epoch."""

    def __init__(self, evaluations: dict[int, Evaluation]) -> None:
        super().__init__("Training was asked to stop.")
        self.evaluations = evaluations


@dataclass(frozen=True)
class TrainingPlan:
    """The parameters of ``Global`` used by the loop; see docs/config.md."""

    epochs: int = 1
    eval_interval: int = 1
    print_batch_step: int = 10
    update_freq: int = 1
    seed: int = 0
    eval_before_train: bool = False
    bn_sync: Literal["average", "broadcast"] = "average"


class Trainer:
    """Train a recognizer: forward, backward, step, evaluate, save; everything else is done by callbacks.

    Args:
        state: what is trained, and the progress to continue from.
        losses: takes the head's scores and the labels (N,); returns the losses by name, their sum as "loss".
        loader: training batches.
        plan: intervals and lengths.
        evaluator: None trains without evaluation.
        saver: of checkpoints; None saves none.
    """

    def __init__(
        self,
        state: TrainState,
        losses: Callable[..., dict[str, paddle.Tensor]],
        loader: TrainLoader,
        plan: TrainingPlan,
        *,
        evaluator: Evaluator | None = None,
        saver: Saver | None = None,
    ) -> None:
        self.state, self.losses, self.loader, self.plan = state, losses, loader, plan
        self.evaluator, self.saver = evaluator, saver or NoSaver(state)
        self.callbacks: Sequence[Callback] = ()

    def train(self, callbacks: Sequence[Callback] = ()) -> dict[int, Evaluation]:
        """Train to the last epoch; return the evaluations by epoch (0: before training).

        Raises:
            TrainingStopped: requested by a signal or a callback; `latest` has the current state.
            ValueError: the loss is not finite, or a sample is invalid.
        """
        state, plan, progress = self.state, self.plan, self.state.progress
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise ValueError(f"{type(callback).__name__} is no callback: derive it from ppfacerec.Callback.")
        self.callbacks = callbacks
        self._evaluations = evaluations = dict[int, Evaluation]()
        with ExitStack() as stack:
            for callback in self.callbacks:
                stack.enter_context(callback)
            stack.enter_context(self.saver)
            for callback in self.callbacks:
                callback.on_train_begin(state)
            self._replicas = Replicas(state.recognizer)  # broadcasts rank 0's weights, so it verifies nothing
            if self.evaluator and plan.eval_before_train and progress == Progress():
                evaluations[0] = self._evaluate(self.evaluator, 0)
            while progress.epoch <= plan.epochs:
                epoch, last = progress.epoch, progress.epoch == plan.epochs
                self._train_epoch()
                if self.evaluator and (epoch % plan.eval_interval == 0 or last):
                    with self._saving() as saver:
                        saver.before_evaluation()
                    evaluations[epoch] = self._evaluate(self.evaluator, epoch)
                progress.epoch, progress.iteration = epoch + 1, 0
                for callback in self.callbacks:
                    callback.on_epoch(state, epoch)
                stops = not last and distributed.any_rank(self._is_asked_to_stop())  # during the evaluation
                with self._saving() as saver:
                    # With EMA, the evaluated weights are not those that are saved here.
                    saver.after_epoch(epoch, last, evaluations.get(epoch) if state.ema is None else None)
                    if stops or last:
                        saver.finish()
                if stops:
                    self._stop()
        return evaluations

    def _train_epoch(self) -> None:
        state, plan, progress = self.state, self.plan, self.state.progress
        state.recognizer.train()
        num_batches, meters = len(self.loader), Meters()
        for iteration, batch in self._batches():
            meters.read()
            self._begin(Activity.COMPUTING)
            rate = state.set_learning_rate()
            is_step = iteration == self._of_one_step(iteration)[-1]
            with nullcontext() if is_step else self._replicas.apart():
                losses = self._forward_backward(batch, iteration)
            if is_step:
                self._step()
            progress.iteration = iteration + 1
            for callback in self.callbacks:
                callback.on_batch(state)
            meters.add(losses, len(batch.indices))
            if iteration % plan.print_batch_step == 0 or iteration + 1 == num_batches:
                self._log(meters, rate)
            if is_step:
                with self._saving() as saver:
                    stops = saver.after_step(self._is_asked_to_stop())
                if stops:
                    self._stop()
            meters.begin()

    def _batches(self) -> Iterator[tuple[int, Batch]]:
        """Yield the rest of the epoch's batches with their numbers."""
        progress, num_batches = self.state.progress, len(self.loader)
        batches = self.loader.epoch(progress.epoch, progress.iteration)
        bar = progress_bar(batches, num_batches, f"Epoch {progress.epoch}", "batch", progress.iteration, in_log=False)
        self._begin(Activity.READING)
        for numbered in enumerate(bar, progress.iteration):
            yield numbered
            self._begin(Activity.READING)

    def _forward_backward(self, batch: Batch, iteration: int) -> dict[str, float]:
        """Accumulate this batch's gradients; return its losses."""
        state, progress = self.state, self.state.progress
        seed_step(self.plan.seed, progress.epoch * len(self.loader) + iteration, distributed.rank())
        images = to_network_input(batch.images, self.loader.pipeline.normalize)
        with state.precision.autocast():
            embedding = self._replicas.embed(images)  # (N, D)
        state.head.begin_step(self.plan.seed, progress.global_step)
        losses = self.losses(state.recognizer.scores(embedding, batch.labels), batch.labels)
        values = dict(zip(losses, paddle.stack(list(losses.values())).tolist()))  # one synchronisation with the device
        for callback in self.callbacks:
            callback.on_forward(state, batch, embedding, values)
        if not math.isfinite(values["loss"]):
            raise ValueError(f"The loss is not finite in epoch {progress.epoch}, iteration {iteration}: {values}.")
        state.precision.scaler.scale(losses["loss"] * self._share(batch, iteration)).backward()
        return values

    def _of_one_step(self, iteration: int) -> range:
        """Return the iterations of the optimizer step that contains this one."""
        first = iteration - iteration % self.plan.update_freq
        return range(first, min(first + self.plan.update_freq, len(self.loader)))

    def _share(self, batch: Batch, iteration: int) -> float:
        """Return this batch's weight in the mean over all samples of the optimizer step, times the number of ranks.

        With it, accumulated batches and uneven last ones add up to the gradient of one large batch.
        """
        together = sum(self.loader.sampler.step_size(one) for one in self._of_one_step(iteration))
        return len(batch.indices) * distributed.world_size() / together

    def _step(self) -> None:
        """Take one optimizer step, the same on all ranks."""
        state = self.state
        self._begin(Activity.EXCHANGING)
        self._replicas.average(self.plan.bn_sync)
        if state.precision.level is not None:
            agree_on_overflow([p for _, p in state.trained() if p.grad is not None])
        self._begin(Activity.COMPUTING)
        for callback in self.callbacks:
            callback.on_gradients(state)
        state.apply_gradients()
        for callback in self.callbacks:
            callback.on_step(state)
        state.optimizer.clear_grad(set_to_zero=False)  # zeros would take memory, and an addition in the next step

    def _log(self, meters: Meters, rate: float) -> None:
        """Log one row of means since the last row."""
        self._begin(Activity.LOGGING)
        progress, num_batches = self.state.progress, len(self.loader)
        left = (self.plan.epochs - progress.epoch) * num_batches + num_batches - progress.iteration
        row = {"epoch": progress.epoch, "iter": progress.iteration - 1, "global_step": progress.global_step, "lr": rate}
        row |= meters.row(distributed.world_size(), left)
        for callback in self.callbacks:
            callback.on_log(self.state, row)

    def _evaluate(self, evaluator: Evaluator, epoch: int) -> Evaluation:
        state, progress = self.state, self.state.progress
        self._begin(Activity.EVALUATING)
        with state.ema.applied() if state.ema else nullcontext():
            evaluation = evaluator.evaluate(state.recognizer.backbone, self._evaluated_batch, self._evaluated_set)
            accuracy = evaluation.average_accuracy
            is_best = progress.best_accuracy is None or accuracy > progress.best_accuracy
            if is_best:
                progress.best_accuracy, progress.best_epoch = accuracy, epoch
                with self._saving() as saver:
                    saver.save("best_model", evaluation=evaluation)
            logger.info(
                "[Eval][Epoch %d/%d] average accuracy %.5f, best %.5f (epoch %d)",
                epoch, self.plan.epochs, accuracy, progress.best_accuracy, progress.best_epoch,
            )  # fmt: skip
            self._begin(Activity.LOGGING)
            for callback in self.callbacks:
                callback.on_evaluate(state, epoch, evaluation, is_best)
        return evaluation

    def _evaluated_batch(self) -> None:
        for callback in self.callbacks:
            callback.on_batch(self.state)

    def _evaluated_set(self, *what: Any) -> None:
        for callback in self.callbacks:
            callback.on_evaluate_set(self.state, *what)

    def _begin(self, activity: Activity) -> None:
        for callback in self.callbacks:
            callback.on_activity(activity)

    def _is_asked_to_stop(self) -> bool:
        return any(callback.wants_stop for callback in self.callbacks)

    @contextmanager
    def _saving(self) -> Iterator[Saver]:
        """Yield the saver for a possible save; then notify callbacks of the completed checkpoints."""
        self._begin(Activity.SAVING)
        yield self.saver
        names = self.saver.completed()
        for callback in self.callbacks if names else ():
            callback.on_save(self.state, names)

    def _stop(self) -> None:
        for callback in self.callbacks:
            callback.on_stop(self.state)
        raise TrainingStopped(self._evaluations)
