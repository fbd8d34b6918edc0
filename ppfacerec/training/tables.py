"""Records of a training: lines in the log, train.csv, eval.csv and eval.json."""

from collections.abc import Mapping
from pathlib import Path

from ppfacerec.core import distributed
from ppfacerec.core.log import CsvLog, duration, logger
from ppfacerec.metrics.evaluation import Evaluation
from ppfacerec.training.callbacks import Callback
from ppfacerec.training.state import Progress, TrainState

_NO_LOSS = ("epoch", "iter", "global_step", "lr", "batch_cost", "reader_cost", "ips", "eta")


class ProgressLines(Callback):
    """Log one line for every row, with the training's `epochs` and an epoch's `iterations`."""

    def __init__(self, epochs: int, iterations: int) -> None:
        self._epochs, self._iterations = epochs, iterations

    def on_log(self, state: TrainState, row: Mapping[str, float]) -> None:
        losses = ", ".join(f"{name}: {value:.5f}" for name, value in row.items() if name not in _NO_LOSS)
        logger.info(
            "[Train][Epoch %d/%d][Iter: %d/%d] lr: %.8f, %s, batch_cost: %.5fs, reader_cost: %.5f, "
            "ips: %.2f samples/s, eta: %s",
            row["epoch"], self._epochs, row["iter"], self._iterations, row["lr"], losses, row["batch_cost"],
            row["reader_cost"], row["ips"], duration(row["eta"]),
        )  # fmt: skip


class Tables(Callback):
    """Write rows of train.csv and eval.csv, and the last evaluation as eval.json, on rank 0.

    Args:
        goes_on: the run resumes from a checkpoint: rows that it will write again are dropped.
    """

    def __init__(self, folder: Path, goes_on: bool = False) -> None:
        is_main = distributed.rank() == 0
        self._folder, self._goes_on = folder if is_main else None, goes_on
        self._train = CsvLog(folder / "train.csv" if is_main else None)
        self._eval = CsvLog(folder / "eval.csv" if is_main else None)

    def on_train_begin(self, state: TrainState) -> None:
        if not self._goes_on:
            return
        progress = state.progress
        now, anew = (progress.epoch, progress.iteration), progress == Progress()
        self._train.keep(lambda row: (int(row["epoch"]), int(row["iter"])) < now)
        # A training started from the beginning evaluates epoch 0 again, too.
        self._eval.keep(lambda row: not anew and int(row["epoch"]) < progress.epoch)

    def on_log(self, state: TrainState, row: Mapping[str, float]) -> None:
        self._train.write(row)

    def on_evaluate(self, state: TrainState, epoch: int, evaluation: Evaluation, is_best: bool) -> None:
        row = {name: result.accuracy_mean for name, result in evaluation.results.items()}
        step, average = state.progress.global_step, evaluation.average_accuracy
        self._eval.write({"epoch": epoch, "global_step": step, **row, "average": average})
        if self._folder:
            evaluation.save(self._folder / "eval.json")
