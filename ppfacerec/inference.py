"""Running a backbone for its embeddings: eager, or on the CPU through Paddle Inference with oneDNN."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal, Optional

import numpy as np
import paddle
from paddle import nn

from ppfacerec.log import logger

PARITY_TOLERANCE = 1e-4
# Images in one call on the CPU: with 64, oneDNN's activations were mapped and unmapped anew by every operator, which
# took half of the time; with 8 they stay in the allocator and the cache. Eager is as fast with 8 as with 64 and takes
# 0.4 GB less.
_CPU_CHUNK = 8


class InferenceRunner:
    """Runs a backbone in inference mode; on the CPU with oneDNN, about 4 times faster.

    Against eager with `tune_cpu`, that is; 7 times against eager without it.

    oneDNN runs a copy of the weights as they are now: make a new runner when they have changed (1 to 2 seconds). It
    runs inside Paddle Inference and not as a static graph under FLAGS_use_onednn, because the latter crashes Paddle
    3.3.1 where a Linear follows a flatten (segmentation fault), and because eager training must never see that flag.

    The first images are run both ways. If the two differ by more than 1e-4 of the largest value, the eager result is
    used and a warning says so.

    Args:
        backbone: put into eval mode by the caller.
        backend: "eager", "onednn", or "auto": oneDNN on the CPU, eager on a GPU.

    Raises:
        ValueError: oneDNN asked for on a GPU.
    """

    def __init__(self, backbone: nn.Layer, backend: Literal["auto", "eager", "onednn"] = "auto") -> None:
        self._backbone = backbone
        self.embedding_size: int = backbone.embedding_size
        self._on_cpu = on_cpu = paddle.get_device() == "cpu"
        if backend == "onednn" and not on_cpu:
            raise ValueError("Global.eval_backend is onednn, which runs on the CPU; use auto or eager on a GPU.")
        self._predictor: Optional[_OneDnnPredictor] = None
        self._untried = backend != "eager" and on_cpu

    @property
    def backend(self) -> str:
        return "onednn" if self._predictor else "eager"

    def __call__(self, images: paddle.Tensor) -> np.ndarray:
        """Embeddings (N, D) float32 of images (N, 3, 112, 112)."""
        if self._untried:
            self._untried = False
            self._predictor = self._tried_predictor(images[:4])
        if self._predictor is not None:
            return self._predictor(images.numpy())
        chunk = _CPU_CHUNK if self._on_cpu else len(images)
        return np.concatenate([self._eager(images[i : i + chunk]) for i in range(0, len(images), chunk)])

    @paddle.no_grad()
    def _eager(self, images: paddle.Tensor) -> np.ndarray:
        return self._backbone(images).astype("float32").numpy()

    def _tried_predictor(self, images: paddle.Tensor) -> Optional[_OneDnnPredictor]:
        predictor = _OneDnnPredictor(self._backbone, images.shape[1:])
        eager, onednn = self._eager(images), predictor(images.numpy())
        difference = np.abs(onednn - eager).max() / max(np.abs(eager).max(), 1e-30)
        if difference <= PARITY_TOLERANCE or not np.isfinite(eager).all():  # NaN weights are the metric's to report
            return predictor
        logger.warning(
            "oneDNN's embeddings differ from eager's by %.1e of the largest value (allowed: %.0e); evaluating without "
            "oneDNN, more slowly.", difference, PARITY_TOLERANCE,
        )  # fmt: skip
        return None


class _Inference(nn.Layer):
    """A layer of its own around the backbone, because to_static replaces the forward of what it is given."""

    def __init__(self, backbone: nn.Layer) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.backbone(images)


class _OneDnnPredictor:
    """Paddle Inference over a copy of a backbone.

    Args:
        backbone: in eval mode.
        image_shape: (3, 112, 112).
    """

    def __init__(self, backbone: nn.Layer, image_shape: list[int]) -> None:
        layer = _Inference(backbone)
        layer.eval()
        spec = paddle.static.InputSpec([None, *image_shape], "float32", "images")
        with tempfile.TemporaryDirectory(prefix="ppfacerec_") as folder:
            prefix = Path(folder) / "backbone"
            paddle.jit.save(paddle.jit.to_static(layer, input_spec=[spec], full_graph=True), str(prefix))
            self._predictor = create_predictor(prefix)
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return np.concatenate([self._run(images[i : i + _CPU_CHUNK]) for i in range(0, len(images), _CPU_CHUNK)])

    def _run(self, images: np.ndarray) -> np.ndarray:
        self._input.reshape(images.shape)
        self._input.copy_from_cpu(np.ascontiguousarray(images))
        self._predictor.run()
        return self._output.copy_to_cpu()


def program_file(prefix: Path) -> Path:
    """The program of an inference model: .json of Paddle 3.x, .pdmodel of 2.6."""
    program = prefix.with_name(f"{prefix.name}.json")
    return program if program.exists() else prefix.with_name(f"{prefix.name}.pdmodel")


def create_predictor(prefix: Path, onednn: bool = True, num_threads: int = 1) -> Any:
    """Load an inference model for the CPU.

    Args:
        prefix: its files without suffix.
        onednn: with oneDNN's kernels, or Paddle's own.
        num_threads: of one call.
    """
    from paddle import inference

    config = inference.Config(str(program_file(prefix)), f"{prefix}.pdiparams")
    config.disable_gpu()
    config.disable_glog_info()
    # oneDNN's older name, known to 2.6 and 3.x; both have it on unless told
    config.enable_mkldnn() if onednn else config.disable_mkldnn()
    config.set_cpu_math_library_num_threads(num_threads)
    return inference.create_predictor(config)
