"""What differs between CPU and GPU: device, precision, and how the backbone is run for inference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Callable, Literal, Optional

import numpy as np
import paddle
from paddle import nn

from ppfacerec.data.transforms import NormalizeImage
from ppfacerec.log import logger

_ONEDNN_FLAG = "FLAGS_use_mkldnn"  # Paddle 2.6 and 3.x both know it under this name
PARITY_TOLERANCE = 1e-4
# Images in one oneDNN call: with 64 the activations are mapped and unmapped anew by every operator, which took half of
# the time; with 8 they stay in the allocator (measured: 0.70 s for 64 images, against 1.29 s).
_CPU_CHUNK = 8


def choose_device(name: Literal["auto", "cpu", "gpu"]) -> str:
    """Set Paddle's device and return "cpu" or "gpu".

    Raises:
        ValueError: "gpu" where Paddle has none; the message says which package or option helps.
    """
    compiled = paddle.device.is_compiled_with_cuda()
    available = compiled and paddle.device.cuda.device_count() > 0
    if name == "gpu" and not available:
        reason = (
            "no GPU is visible to it (see nvidia-smi and CUDA_VISIBLE_DEVICES)"
            if compiled
            else 'it is the CPU package; for GPUs: pip uninstall paddlepaddle && pip install "ppfacerec[gpu]" '
            "(paddlepaddle-gpu)"
        )
        raise ValueError(
            f"Global.device is gpu, but Paddle {paddle.__version__} cannot use one: {reason}. "
            "To run on the CPU: -o Global.device=cpu"
        )
    device = "gpu" if available and name != "cpu" else "cpu"
    paddle.set_device(device)  # under paddle.distributed.launch: this process's own GPU
    return device


def refuse_onednn_training() -> None:
    """Raise a ValueError where oneDNN kernels are switched on: they give wrong gradients in training."""
    if paddle.get_flags([_ONEDNN_FLAG])[_ONEDNN_FLAG]:
        raise ValueError(
            "oneDNN is switched on (FLAGS_use_onednn or FLAGS_use_mkldnn in the environment); Paddle's oneDNN kernels "
            "give wrong gradients in training. Unset the variable; evaluation switches oneDNN on by itself."
        )


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed Paddle's generator (dropout) for one step, so that a resumed run draws what the first would have drawn."""
    paddle.seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0]))


def to_network_input(images: paddle.Tensor, normalize: NormalizeImage) -> paddle.Tensor:
    """uint8 NHWC images to the backbone's: float32 NCHW, (x * scale - mean) / std, computed on the device."""
    mean = paddle.to_tensor(normalize.mean, dtype="float32")
    std = paddle.to_tensor(normalize.std, dtype="float32")
    values = (images.astype("float32") * normalize.scale - mean) / std  # (N, H, W, 3)
    return values.transpose([0, 3, 1, 2])


class MixedPrecision:
    """Automatic mixed precision on GPUs; on the CPU everything stays float32.

    Args:
        level: "O1" casts what is safe in fp16, "O2" nearly all; None switches it off.
        dtype: float16 or bfloat16.
        scale_loss: first loss scale.
        use_dynamic_loss_scaling: adapt the scale when gradients overflow.
    """

    def __init__(
        self,
        level: Optional[Literal["O1", "O2"]] = None,
        dtype: str = "float16",
        scale_loss: float = 65536.0,
        use_dynamic_loss_scaling: bool = True,
    ) -> None:
        self.level, self.dtype = level, dtype
        self.scaler = paddle.amp.GradScaler(
            enable=level is not None,
            init_loss_scaling=scale_loss,
            use_dynamic_loss_scaling=use_dynamic_loss_scaling,
        )

    def autocast(self) -> AbstractContextManager[None]:
        if self.level is None:
            return nullcontext()
        return paddle.amp.auto_cast(level=self.level, dtype=self.dtype)

    def decorate(self, backbone: nn.Layer, optimizer: paddle.optimizer.Optimizer) -> None:
        """O2 keeps the backbone's weights in half precision, with float32 masters in the optimizer."""
        if self.level == "O2":
            paddle.amp.decorate(backbone, optimizers=optimizer, level="O2", dtype=self.dtype, master_weight=True)


@contextmanager
def _onednn() -> Iterator[None]:
    """Switch oneDNN kernels on for the static graphs run inside, and off again: eager training must not see them."""
    before = paddle.get_flags([_ONEDNN_FLAG])
    paddle.set_flags({_ONEDNN_FLAG: True})
    try:
        yield
    finally:
        paddle.set_flags(before)


class _Inference(nn.Layer):
    """A layer of its own around the backbone, because to_static replaces the forward of what it is given."""

    def __init__(self, backbone: nn.Layer) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.backbone(images)


class InferenceRunner:
    """Runs a backbone in inference mode; on the CPU as a static graph with oneDNN, about 7 times faster than eager.

    The first batch is run both ways. If the two differ by more than 1e-4 of the largest value, or oneDNN fails, the
    eager result is used and a warning says so. Make a new runner when the weights have changed: oneDNN keeps
    reordered copies of them (Paddle 2.6).

    Args:
        backbone: put into eval mode by the caller.
        backend: "eager", "onednn", or "auto": oneDNN on the CPU, eager on a GPU.
    """

    def __init__(self, backbone: nn.Layer, backend: Literal["auto", "eager", "onednn"] = "auto") -> None:
        self._backbone = backbone
        self.embedding_size: int = backbone.embedding_size
        on_cpu = paddle.get_device() == "cpu"
        if backend == "onednn" and not on_cpu:
            raise ValueError("Global.eval_backend is onednn, which runs on the CPU; use auto or eager on a GPU.")
        self._static: Optional[Callable[[paddle.Tensor], paddle.Tensor]] = None
        self._untried = backend != "eager" and on_cpu

    @property
    def backend(self) -> str:
        return "onednn" if self._static else "eager"

    def __call__(self, images: paddle.Tensor) -> np.ndarray:
        """Embeddings (N, D) float32 of images (N, 3, 112, 112)."""
        with paddle.no_grad():
            if self._untried:
                self._untried = False
                return self._compare_backends(images)
            if self._static is None:
                return self._backbone(images).astype("float32").numpy()
            return self._run_static(images)

    def _run_static(self, images: paddle.Tensor) -> np.ndarray:
        assert self._static is not None, "called after _compare_backends"
        with _onednn():
            chunks = [self._static(images[i : i + _CPU_CHUNK]).numpy() for i in range(0, len(images), _CPU_CHUNK)]
        return np.concatenate(chunks)

    def _compare_backends(self, images: paddle.Tensor) -> np.ndarray:
        spec = paddle.static.InputSpec([None, *images.shape[1:]], "float32", "images")
        static = paddle.jit.to_static(_Inference(self._backbone), input_spec=[spec], full_graph=True)
        static.eval()
        few = images[:4]
        eager = self._backbone(few).numpy()
        with _onednn():
            onednn = static(few).numpy()
        difference = np.abs(onednn - eager).max() / max(np.abs(eager).max(), 1e-30)
        if not difference <= PARITY_TOLERANCE:  # also when it is NaN
            logger.warning(
                "oneDNN's embeddings differ from eager's by %.1e of the largest value (allowed: %.0e); "
                "evaluating without oneDNN, more slowly.", difference, PARITY_TOLERANCE,
            )  # fmt: skip
            return self._backbone(images).numpy()
        self._static = static
        return self._run_static(images)
