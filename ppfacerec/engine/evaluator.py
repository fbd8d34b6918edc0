"""Verification of a backbone on sets of pairs: embed every distinct image, gather over the ranks, score."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional

import numpy as np
import paddle
from paddle import nn
from tqdm import tqdm

from ppfacerec import distributed
from ppfacerec.data.pair_bin import PairBin, read_bin
from ppfacerec.data.transforms import Pipeline
from ppfacerec.inference import InferenceRunner
from ppfacerec.log import logger, table
from ppfacerec.metrics import FaceAccOnFiveDatasets, VerificationResult, sum_flip
from ppfacerec.runtime import to_network_input


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation found: a result for each set, in the order of the config."""

    results: Mapping[str, VerificationResult]

    @property
    def average_accuracy(self) -> float:
        return float(np.mean([r.accuracy_mean for r in self.results.values()]))

    def to_json(self) -> dict[str, Any]:
        """The content of eval.json; None where a set cannot tell ("n/a")."""
        sets = {
            name: {
                "accuracy": result.accuracy_mean,
                "accuracy_std": result.accuracy_std,
                "threshold": float(np.mean(result.best_thresholds)),
                "num_pairs": result.num_pairs,
                "tar_at_far_1e-3": result.val,
                "auc": result.auc,
                "eer": result.eer,
            }
            for name, result in self.results.items()
        }
        return {**sets, "average_accuracy": self.average_accuracy}

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")

    def table(self) -> str:
        rows = [
            [name, f"{r.accuracy_mean:.5f}", f"{r.accuracy_std:.5f}", f"{np.mean(r.best_thresholds):.3f}",
             _or_na(r.val), _or_na(r.auc), str(r.num_pairs)]
            for name, r in self.results.items()
        ]  # fmt: skip
        rows.append(["average", f"{self.average_accuracy:.5f}", "", "", "", "", ""])
        return table(["set", "accuracy", "std", "threshold", "TAR@FAR=1e-3", "AUC", "pairs"], rows)


def _or_na(value: Optional[float]) -> str:
    return "n/a" if value is None else f"{value:.5f}"


class Evaluator:
    """Evaluates a backbone on .bin sets by insightface's protocol.

    Args:
        paths: name -> .bin file.
        pipeline: bytes to image.
        metric: scores a set's embeddings.
        batch_size: images a batch and rank.
        flip_test: add the embedding of the mirrored image.
        feature_normalize: normalise both embeddings before they are added (PaddleClas's option).
        backend: how the backbone is run, see ``InferenceRunner``.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        pipeline: Pipeline,
        metric: FaceAccOnFiveDatasets,
        batch_size: int,
        flip_test: bool = True,
        feature_normalize: bool = False,
        backend: Literal["auto", "eager", "onednn"] = "auto",
    ) -> None:
        self._paths, self._pipeline, self._metric, self._batch_size = paths, pipeline, metric, batch_size
        self._flip_test, self._feature_normalize, self._backend = flip_test, feature_normalize, backend

    def evaluate(self, backbone: nn.Layer) -> Evaluation:
        """Evaluate on every set; all ranks work and all get the same result.

        Raises:
            ValueError: a set cannot be read, an image does not decode, or an embedding is not finite.
        """
        was_training = backbone.training
        backbone.eval()
        runner = InferenceRunner(backbone, self._backend)
        results = {}
        for name, path in self._paths.items():
            start = time.perf_counter()
            pairs = read_bin(path)
            embeddings = self._embed(runner, pairs, name)
            results[name] = self._metric(embeddings[pairs.index], pairs.is_same)
            logger.info(
                "[Eval] %s: accuracy %.5f +- %.5f, threshold %.3f, %d pairs (%d distinct images), %.1f s, %s",
                name, results[name].accuracy_mean, results[name].accuracy_std,
                np.mean(results[name].best_thresholds), len(pairs), len(pairs.images),
                time.perf_counter() - start, runner.backend,
            )  # fmt: skip
        if was_training:
            backbone.train()
        return Evaluation(results)

    def _embed(self, runner: InferenceRunner, pairs: PairBin, name: str) -> np.ndarray:
        """Normalised embeddings (M, D) of the set's distinct images, in their order, on every rank.

        Whole batches are shared out, so that each batch is the same, to the last bit, for any number of ranks.
        """
        num_images, size = len(pairs.images), self._batch_size
        shares = np.array_split(np.arange(0, num_images, size), distributed.world_size())
        counts = [sum(min(size, num_images - start) for start in share) for share in shares]
        rows = []
        for start in tqdm(shares[distributed.rank()], desc=name, leave=False, disable=not _is_watched()):
            images = np.stack(
                [self._image(pairs, i) for i in range(start, min(start + size, num_images))]
            )  # (N, 112, 112, 3)
            rows.append(self._embed_batch(runner, images))
        rows.append(np.zeros((0, runner.embedding_size)))  # a rank may have no batch
        return distributed.gather_rows(np.concatenate(rows), counts)

    def _image(self, pairs: PairBin, index: int) -> np.ndarray:
        image = self._pipeline(pairs.images[index], pairs.where(index))
        if image.shape != (112, 112, 3):
            raise ValueError(
                f"{pairs.where(index)}: the image is {image.shape[1]} x {image.shape[0]}, the backbones take "
                "112 x 112. Add ResizeImage: {size: [112, 112]} to DataLoader.Eval's transform_ops."
            )
        return image

    def _embed_batch(self, runner: InferenceRunner, images: np.ndarray) -> np.ndarray:
        batch = to_network_input(paddle.to_tensor(images), self._pipeline.normalize)
        embeddings = runner(batch)
        flipped = runner(paddle.flip(batch, axis=[3])) if self._flip_test else np.zeros_like(embeddings)
        return sum_flip(embeddings, flipped, self._feature_normalize)


def _is_watched() -> bool:
    return sys.stderr.isatty() and distributed.rank() == 0
