"""Records for VisualDL besides scalars: images, histograms, the projector, hyper-parameters."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

import numpy as np
import paddle

from ppfacerec.data.loading.loader import Batch
from ppfacerec.data.pairs.pair_set import PairSet
from ppfacerec.data.transforms.images import decode_rgb
from ppfacerec.evaluation.report.people import people_of
from ppfacerec.evaluation.report.sheet import batch_sheet, pair_sheet, people_sheet
from ppfacerec.metrics import VerificationResult
from ppfacerec.metrics.evaluation import Evaluation
from ppfacerec.recognizer import HEAD_ACTIVE_ROWS, FaceRecognizer
from ppfacerec.training.callbacks import Callback
from ppfacerec.training.monitoring.distributions import head_statistics, some_values, watched_parameters
from ppfacerec.training.monitoring.visualdl_log import VisualDLLog
from ppfacerec.training.state import TrainState

NUM_HISTOGRAMS = 50  # per tag and training: VisualDL's lines overlap with more
NUM_COLOURS = 18  # in its projector; a column with more values cannot define colours


class Visuals(Callback):
    """Record what a training does, on rank 0; a no-op if VisualDL is off or fails.

    Args:
        log: the destination.
        recognizer: the network in training.
        num_steps: optimizer steps of the whole training.
        shows_faces: False omits images of faces.
    """

    def __init__(self, log: VisualDLLog, recognizer: FaceRecognizer, num_steps: int, shows_faces: bool = True) -> None:
        self.log, self._shows_faces = log, shows_faces
        self._interval = max(1, num_steps // NUM_HISTOGRAMS)
        self._seen_step = 0
        self._has_drawn: set[str] = set()
        self._watched = watched_parameters(recognizer)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.log.close()

    def on_forward(
        self, state: TrainState, batch: Batch, embedding: paddle.Tensor, losses: Mapping[str, float]
    ) -> None:
        step = state.progress.global_step + 1  # the optimizer step of this batch
        if not self.log or step == self._seen_step:  # another batch of the same step
            return
        self._seen_step = step
        with self.log.warn_once():
            if self._shows_faces and self._is_first("train/batch"):
                self.log.image("train/batch", batch_sheet(batch.images.numpy(), batch.labels.numpy()), step)
            if self._is_due(step):
                for name, values in head_statistics(state.head, batch, embedding).items():
                    self.log.histogram(name, values, step)

    def on_step(self, state: TrainState) -> None:
        step = state.progress.global_step
        if not self.log or not self._is_due(step):
            return
        with self.log.warn_once():
            for name, parameter in self._watched.items():
                if name != HEAD_ACTIVE_ROWS:
                    self.log.histogram(f"weights/{name}", some_values(parameter), step)
                if parameter.grad is not None:
                    self.log.histogram(f"gradients/{name}", some_values(parameter.grad), step)

    def on_log(self, state: TrainState, row: Mapping[str, float]) -> None:
        shown = {f"train/{name}": value for name, value in row.items() if name not in ("epoch", "iter", "global_step")}
        self.log.scalars(shown, state.progress.global_step)

    def on_evaluate_set(
        self, state: TrainState, name: str, pairs: PairSet, embeddings: np.ndarray, result: VerificationResult
    ) -> None:
        """Show the hardest pairs of a set, and the embeddings of some of its people."""
        if not self.log:
            return
        step = state.progress.global_step
        with self.log.warn_once():
            people = people_of(pairs)
            points = [(number, person.name, image) for number, person in enumerate(people) for image in person.images]
            self.log.embeddings(f"{name}/step_{step}", embeddings[[image for _, _, image in points]], {
                "person": [who for _, who, _ in points],
                "colour": [who if number < NUM_COLOURS - 1 else "others" for number, who, _ in points],
                "image": [f"#{image}" for _, _, image in points],
            })  # fmt: skip
            if not self._shows_faces:
                return
            for kind, is_same in (("false_accepts", False), ("false_rejects", True)):
                if (result.is_same == is_same).any():
                    self.log.image(f"eval/{name}_{kind}", pair_sheet(pairs, result, is_same), step)
            if self._is_first(f"eval/{name}_people"):
                self.log.image(f"eval/{name}_people", people_sheet(pairs, people), step)

    def on_evaluate(self, state: TrainState, epoch: int, evaluation: Evaluation, is_best: bool) -> None:
        if not self.log:
            return
        step = state.progress.global_step
        accuracies = {name: result.accuracy_mean for name, result in evaluation.results.items()}
        accuracies["average"] = evaluation.average_accuracy
        self.log.scalars({f"eval/{name}": value for name, value in accuracies.items()}, step)
        with self.log.warn_once():
            from ppfacerec.evaluation.report.plots import LIGHT, draw_roc

            self.log.image("eval/roc", decode_rgb(draw_roc(evaluation.results, LIGHT), "the ROC's PNG"), step)

    def _is_due(self, step: int) -> bool:
        return step == 1 or step % self._interval == 0

    def _is_first(self, tag: str) -> bool:
        """Whether nothing was recorded under this name."""
        is_first = tag not in self._has_drawn
        self._has_drawn.add(tag)
        return is_first
