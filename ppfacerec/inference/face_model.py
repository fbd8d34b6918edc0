"""A model that embeds and compares aligned faces, loaded from any supported file.

model = ppfacerec.load("output/MobileFaceNet/best_model")
embeddings = model.embed(["a.jpg", "b.jpg"])  # (2, D), rows of length 1
print(model.compare("a.jpg", "b.jpg"))
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np

from ppfacerec.core.log import progress_bar
from ppfacerec.core.ranges import is_number, require_count
from ppfacerec.inference.exported import METADATA, find_description, read_description, read_metadata
from ppfacerec.inference.image_facts import FaceCheck
from ppfacerec.inference.image_files import Image, is_one_image, name_of, read_image
from ppfacerec.inference.runners import STEM, onnx_metadata, run_onnx
from ppfacerec.metrics import sum_flip
from ppfacerec.metrics.roc import far_name, one_in
from ppfacerec.weights.info import ModelInfo

# uint8 RGB (N, 112, 112, 3) -> embeddings (N, D), not normalised
Runner = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Threshold:
    """The cosine above which two faces count as the same person, and its measured rates.

    Attributes:
        far: the requested false accept rate; None if the user chose the cosine.
        measured_on: the sets of pairs; num_different: pairs of different people in the smallest set.
        tar: true accept rate, the lowest of the sets.
    """

    cosine: float
    far: float | None = None
    tar: float = 0.0
    measured_on: str = ""
    num_different: int = 0

    def __post_init__(self) -> None:
        if not is_number(self.cosine, -1, 1):
            raise ValueError(f"threshold: expected a cosine from -1 to 1, found {self.cosine!r}.")

    def __str__(self) -> str:
        if self.far is None:
            return f"threshold {self.cosine:.3f}, chosen by you"
        return (
            f"threshold {self.cosine:.3f}: at most {one_in(self.far)} pairs of different people is wrongly "
            f"called the same, {100 * self.tar:.1f} % of the pairs of one person are found (measured on "
            f"{self.measured_on}, {self.num_different:,} different pairs)"
        )


@dataclass(frozen=True)
class Comparison:
    """The result of comparing two faces."""

    cosine: float
    threshold: Threshold

    @property
    def is_same(self) -> bool:
        return self.cosine > self.threshold.cosine

    def __str__(self) -> str:
        answer = "the same person" if self.is_same else "different people"
        return f"cosine {self.cosine:.3f}: {answer} ({self.threshold})"


USUAL_FAR = 1e-3
_LEAST_RANGE = 8  # between the brightest and the darkest pixel, of 255


class FaceModel:
    """Embed aligned faces with the preprocessing of the model's info. Create one with ``ppfacerec.load``.

    Thread-safe. A spawned process that receives one loads it again, from the name and device passed to `load`;
    prefer spawn to fork (docs/api.md).
    """

    def __init__(self, run: Runner, info: ModelInfo, name: str, device: str = "auto") -> None:
        self._run, self.info, self.name, self._device = run, info, name, device

    def __reduce__(self) -> tuple[Any, ...]:
        return load, (os.path.abspath(self.name) if os.path.exists(self.name) else self.name, self._device)

    def embed(self, images: Image | Iterable[Image], batch_size: int = 32) -> np.ndarray:
        """Return embeddings (N, D) float32, rows of length 1; (D,) for a single image.

        Args:
            images: one, or an iterable: paths, encoded bytes, open files, PIL images, or uint8 arrays, RGB
                (112, 112, 3) or grey (112, 112).
            batch_size: images decoded at a time.

        Raises:
            ValueError: one is no image, not 112 x 112, or of a single shade.
        """
        if is_one_image(images):
            return self.embed([cast(Image, images)], batch_size)[0]
        given, check = enumerate(cast(Iterable[Image], images)), FaceCheck()
        rows = [np.zeros((0, self.info.embedding_size), np.float32)]
        while part := list(islice(given, require_count("batch_size", batch_size))):
            pixels = [self._read(image, name_of(image, number), check) for number, image in part]
            rows.append(self.embed_pixels(np.stack(pixels)))
        check.warn()
        return np.concatenate(rows)

    def embed_files(
        self, paths: str | Path | Iterable[str | Path], batch_size: int = 32, check: FaceCheck | None = None
    ) -> tuple[list[Path], np.ndarray, list[str]]:
        """Embed the readable files; return them, their embeddings (N, D), and a line about each unreadable one.

        Several calls may share a `check`; the caller logs its warning.
        """
        good: list[Path] = []
        bad: list[str] = []
        paths = [Path(paths)] if isinstance(paths, (str, Path)) else list(paths)
        own = FaceCheck() if check is None else check
        require_count("batch_size", batch_size)
        rows = [np.zeros((0, self.info.embedding_size), np.float32)]
        starts = range(0, len(paths), batch_size)
        for start in progress_bar(starts, len(starts), "embedding", "batch", in_log=check is None):
            images = []
            for path in paths[start : start + batch_size]:
                try:
                    images.append(self._read(path, str(path), own))
                    good.append(Path(path))
                except ValueError as error:
                    bad.append(str(error))
            if images:
                rows.append(self.embed_pixels(np.stack(images)))
        if check is None:
            own.warn()
        return good, np.concatenate(rows), bad

    def compare(
        self, first: Image, second: Image, far: float | None = None, threshold: float | None = None
    ) -> Comparison:
        """Compare two faces.

        Args:
            far: the false accept rate of the threshold; None: see `threshold`.
            threshold: a cosine to use instead.

        Raises:
            ValueError: as in `embed`, or the model has no measured threshold for `far`.
        """
        chosen = self.threshold(far, threshold)
        left, right = self.embed([first, second])
        return Comparison(float(left @ right), chosen)

    def threshold(self, far: float | None = None, cosine: float | None = None) -> Threshold:
        """Return the measured threshold for a false accept rate: the strictest of the evaluated sets.

        Args:
            far: None: 1e-3, or the next larger measured rate if no set has enough pairs for that.
            cosine: a threshold to return unchanged.

        Raises:
            ValueError: the model was not evaluated, or no set has enough pairs to measure it.
        """
        if cosine is not None:
            return Threshold(cosine)
        if far is not None and (not is_number(far, 0, 1) or far in (0, 1)):
            raise ValueError(f"far: expected a false accept rate between 0 and 1, such as 1e-3, found {far!r}.")
        if far is None:
            measured = {float(key) for by_far in self.info.thresholds.values() for key in by_far}
            far = min((rate for rate in measured if rate >= USUAL_FAR), default=USUAL_FAR)
        key = far_name(far)
        points = {name: by_far[key] for name, by_far in self.info.thresholds.items() if key in by_far}
        if not points:
            known = sorted({k for by_far in self.info.thresholds.values() for k in by_far}, key=float)
            why = f"known are {', '.join(known)}" if known else "it has not been evaluated; run `ppfacerec eval` on it"
            raise ValueError(f"{self.name} has no measured threshold for a FAR of {key}: {why}. Or give a cosine.")
        return Threshold(
            cosine=max(p["cosine"] for p in points.values()),
            far=far,
            tar=min(p["tar"] for p in points.values()),
            measured_on=", ".join(points),
            num_different=int(min(p["num_different"] for p in points.values())),
        )

    def embed_pixels(self, images: np.ndarray) -> np.ndarray:
        """Embed uint8 RGB pixels (N, 112, 112, 3) without checking them; return (N, D)."""
        embeddings = self._run(images)
        if self.info.flip_test:
            flipped = self._run(np.ascontiguousarray(images[:, :, ::-1]))
        else:
            flipped = np.zeros_like(embeddings)
        found = sum_flip(embeddings, flipped, self.info.feature_normalize).astype(np.float32)
        if not (np.isfinite(found).all() and found.any(axis=1).all()):
            raise ValueError(
                f"{self.name} gives embeddings that are not finite, or all zero: its weights overflow or are damaged. "
                "Nothing can be compared with them."
            )
        return found

    def _read(self, image: Image, name: str, check: FaceCheck) -> np.ndarray:
        pixels = read_image(image, name, self.info.image_size)
        if int(pixels.max()) - int(pixels.min()) < _LEAST_RANGE:  # all such images get the same embedding
            raise ValueError(f"{name}: the whole image is one shade, {pixels.max()} of 255; expected a face.")
        check.add(pixels, name)
        return pixels


def load(name: str | Path, device: Any = "auto") -> FaceModel:
    """Load a model: weights (a file, a zoo name, an https URL), an exported folder, or one of our ONNX files.

    Args:
        name: such as "output/X/best_model", "inference/" or "inference/inference.onnx".
        device: for weights: "auto", "cpu" or "gpu" (select one of several by CUDA_VISIBLE_DEVICES). Exported models
            always run on the CPU.

    Raises:
        ValueError: it is missing, damaged, or its preprocessing is unknown.
    """
    if device not in ("auto", "cpu", "gpu"):
        raise ValueError(
            f"device: expected auto, cpu or gpu, found {device!r}; CUDA_VISIBLE_DEVICES chooses among several."
        )
    if not isinstance(name, (str, Path)) or not str(name):
        raise ValueError(f"name: expected a path, a model name or an https URL, found {name!r}.")
    path = Path(name)
    description = find_description(path)
    if description:
        return _exported(description)
    if path.suffix == ".onnx":
        return _onnx(path)
    return _weights(str(name), device)


def _weights(name: str, device: Any) -> FaceModel:
    from ppfacerec.core.device.paddle_thread import PADDLE_LOCK
    from ppfacerec.core.device.runtime import choose_device
    from ppfacerec.inference.loading import load_runner

    with PADDLE_LOCK:
        choose_device(device)
        runner, info = load_runner(name)
        return FaceModel(_prepared(runner, info, False), info, name, device)


def _exported(description: Path) -> FaceModel:
    from ppfacerec.inference.loading import load_predictor

    exported = read_description(description)
    run = run_onnx(exported.onnx) if exported.onnx else load_predictor(description.with_name(STEM))
    return FaceModel(_prepared(run, exported.info, exported.takes_pixels), exported.info, str(description))


def _onnx(path: Path) -> FaceModel:
    metadata, is_uint8 = onnx_metadata(path)
    if METADATA not in metadata:
        raise ValueError(
            f"{path} does not describe its preprocessing (it was not exported by ppfacerec). Convert the weights that "
            "it was made from, or run it with onnxruntime yourself."
        )
    info = read_metadata(path, metadata)
    return FaceModel(_prepared(run_onnx(path), info, is_uint8), info, str(path))


def _prepared(run: Runner, info: ModelInfo, takes_pixels: bool) -> Runner:
    """Wrap an exported network that takes pixels, or input preprocessed here."""
    if takes_pixels:
        return run
    mean, std = np.asarray(info.mean, np.float32), np.asarray(info.std, np.float32)

    def prepared(images: np.ndarray) -> np.ndarray:
        images = images[..., ::-1] if info.colors == "BGR" else images
        values = (images.astype(np.float32) * np.float32(info.scale) - mean) / std
        return run(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))

    return prepared
