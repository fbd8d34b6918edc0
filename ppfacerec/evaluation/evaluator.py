"""Verification of a backbone on sets of pairs: embed every distinct image, gather over the ranks, score."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import paddle
from paddle import nn

from ppfacerec.core import distributed
from ppfacerec.core.device.inference import InferenceRunner
from ppfacerec.core.image_size import IMAGE_SIZE
from ppfacerec.core.log import logger, progress_bar
from ppfacerec.data.loading.prefetch import prefetched
from ppfacerec.data.pairs.pair_set import EvalDataset, PairSet
from ppfacerec.data.transforms.basic import Pipeline
from ppfacerec.data.transforms.images import resize_short_side
from ppfacerec.data.transforms.network_input import to_network_input
from ppfacerec.metrics import FaceAccOnFiveDatasets, VerificationResult, sum_flip
from ppfacerec.metrics.evaluation import Evaluation
from ppfacerec.metrics.pair_embeddings import row_lengths
from ppfacerec.recognizer import set_training

__all__ = ["Evaluation", "Evaluator"]

Watch = Callable[[str, PairSet, np.ndarray, VerificationResult], None]


class Evaluator:
    """Evaluates a backbone on verification sets, one at a time, by insightface's protocol.

    Args:
        batch_size: images per batch and rank; each is run with its mirror image.
        flip_test: add the embedding of the mirrored image.
        feature_normalize: normalise both embeddings before they are added (PaddleClas's option).
        backend: how the backbone is run, see ``InferenceRunner``.
    """

    def __init__(
        self,
        dataset: EvalDataset,
        pipeline: Pipeline,
        metric: FaceAccOnFiveDatasets,
        batch_size: int,
        *,
        flip_test: bool = True,
        feature_normalize: bool = False,
        backend: Literal["auto", "eager", "onednn"] = "auto",
    ) -> None:
        self.dataset = dataset
        self._pipeline, self._metric, self._batch_size = pipeline, metric, batch_size
        self._flip_test, self._feature_normalize, self._backend = flip_test, feature_normalize, backend

    def check(self) -> None:
        """Read every set, without decoding images, so that a bad one does not end a training at its first evaluation.

        Raises:
            ValueError: a set cannot be read, or has too few pairs for the metric.
        """
        with distributed.failing_together():
            for name in self.dataset.names if distributed.rank() == 0 else ():
                pairs = self.dataset.open(name)
                self._score(name, pairs, np.zeros((pairs.num_images, 1)))

    def evaluate(
        self, backbone: nn.Layer, on_batch: Callable[[], None] = lambda: None, watch: Watch | None = None
    ) -> Evaluation:
        """Evaluate on every set; all ranks share the work and return the same result.

        Args:
            on_batch: called after each batch.
            watch: called with each set while it is open, and the embeddings (M, D) of its distinct images.

        Raises:
            ValueError: a set cannot be read, an image does not decode, or an embedding is not finite; on all ranks.
        """
        was_training = backbone.training
        backbone.eval()
        runner = InferenceRunner(backbone, self._backend)
        results = {name: self._evaluate_set(runner, name, on_batch, watch) for name in self.dataset.names}
        if was_training:
            set_training(backbone)
        return Evaluation(results)

    def _evaluate_set(
        self, runner: InferenceRunner, name: str, on_batch: Callable[[], None], watch: Watch | None
    ) -> VerificationResult:
        start = time.perf_counter()
        with distributed.failing_together():
            pairs = self.dataset.open(name)
            shares = distributed.shares_of_batches(pairs.num_images, self._batch_size)
            rows = self._embed(runner, pairs, shares[distributed.rank()], name, on_batch)
        # (M, D + 1), in the images' order, on every rank; the last column is the length before normalisation
        gathered = distributed.gather_rows(rows, [sum(map(len, share)) for share in shares])
        embeddings, lengths = gathered[:, :-1], gathered[:, -1]
        result = replace(self._score(name, pairs, embeddings), xnorm=float(lengths[pairs.index].mean()))
        for doubt in result.doubts:
            logger.warning("[Eval] %s: %s", name, doubt)
        logger.info(
            "[Eval] %s: accuracy %.5f +- %.5f, threshold %.3f, %d pairs (%d distinct images), %.1f s, %s",
            name, result.accuracy_mean, result.accuracy_std, result.threshold, result.num_pairs, pairs.num_images,
            time.perf_counter() - start, runner.backend,
        )  # fmt: skip
        if watch:
            watch(name, pairs, embeddings, result)
        return result

    def _score(self, name: str, pairs: PairSet, embeddings: np.ndarray) -> VerificationResult:
        try:
            return self._metric(embeddings[pairs.index], pairs.is_same, pairs.num_folds)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def _embed(
        self, runner: InferenceRunner, pairs: PairSet, share: list[range], name: str, on_batch: Callable[[], None]
    ) -> np.ndarray:
        """Return normalised embeddings and lengths of this rank's images; only two batches of pixels are in memory."""
        sizes: Counter[tuple[int, int]] = Counter()
        rows = [np.zeros((0, runner.embedding_size + 1))]  # a rank may have no batch

        def images(batch: range) -> np.ndarray:
            made = [(self._pipeline(pairs.read(i), pairs.where(i)), pairs.where(i)) for i in batch]
            sizes.update(image.shape[:2] for image, _ in made)
            return np.stack([resize_short_side(image, where) for image, where in made])

        batches = progress_bar(prefetched(images, share), len(share), name, "batch")
        for batch in batches:
            rows.append(self._embed_batch(runner, batch))
            on_batch()
        _warn_of_resized(name, sizes)
        return np.concatenate(rows)

    def _embed_batch(self, runner: InferenceRunner, images: np.ndarray) -> np.ndarray:
        """Embed (N, 112, 112, 3) images, and their mirror images in the same pass: (N, D + 1), the length last."""
        both = np.concatenate([images, images[:, :, ::-1]]) if self._flip_test else images
        embeddings = runner(to_network_input(paddle.to_tensor(both), self._pipeline.normalize))
        flipped = embeddings[len(images) :] if self._flip_test else np.zeros_like(embeddings)
        lengths = row_lengths(embeddings).reshape(-1, len(images)).mean(axis=0)  # insightface's XNorm counts both
        return np.c_[sum_flip(embeddings[: len(images)], flipped, self._feature_normalize), lengths]


def _warn_of_resized(name: str, sizes: Counter[tuple[int, int]]) -> None:
    del sizes[IMAGE_SIZE, IMAGE_SIZE]
    if sizes:
        (height, width), _ = sizes.most_common(1)[0]
        cut = ", and cut to the central square" if any(height != width for height, width in sizes) else ""
        logger.warning(
            "[Eval] %s: %d images are not 112 x 112 after transform_ops (most of them %d x %d); resized by the short "
            "side, bicubic, as insightface does%s. Faces must be aligned as in training.",
            name, sum(sizes.values()), width, height, cut,
        )  # fmt: skip
