"""What differs between CPU and GPU: device, precision, seeds."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

import numpy as np
import paddle
from paddle import nn

from ppfacerec.core import distributed
from ppfacerec.core.environment import DEVICE, install_hint
from ppfacerec.core.log import logger

_ONEDNN_FLAG = "FLAGS_use_mkldnn"  # the name in Paddle 2.6 and 3.x


def choose_device(name: str) -> str:
    """Set Paddle's device ("auto", "cpu", "gpu", or "gpu:1" for one of several GPUs); return "cpu" or "gpu".

    Raises:
        ValueError: a GPU was requested and Paddle has none; the message names the package or option to use.
    """
    problem = device_problem(name)
    if problem:
        raise ValueError(problem)
    compiled = paddle.device.is_compiled_with_cuda()
    available = compiled and paddle.device.cuda.device_count() > 0
    if name == "auto" and compiled and not available:
        logger.warning("Paddle is the GPU build but sees no GPU (%s): computing on the CPU.", _NO_GPU)
    if name == "auto" and not compiled and Path("/dev/nvidiactl").exists():
        logger.warning("This machine has an NVIDIA GPU, but Paddle is the CPU package: %s.", _other_package())
    device = "gpu" if available and name != "cpu" else "cpu"
    paddle.set_device(name if ":" in name else device)  # under paddle.distributed.launch: this process's own GPU
    return device


_NO_GPU = "see nvidia-smi and CUDA_VISIBLE_DEVICES"


def _other_package() -> str:
    return f"pip uninstall -y paddlepaddle, then {install_hint('gpu')}"


def device_problem(name: str) -> str | None:
    """Return why a device cannot be used, or None."""
    kind, colon, index = name.partition(":")
    if not DEVICE.fullmatch(name):
        return f"device: expected auto, cpu, gpu, or gpu:1 for one of several GPUs, found {name!r}."
    if kind != "gpu":
        return None
    compiled = paddle.device.is_compiled_with_cuda()
    count = paddle.device.cuda.device_count() if compiled else 0
    if not count:
        package = f"it is the CPU package; for GPUs: {_other_package()}"
        reason = f"no GPU is visible to it ({_NO_GPU})" if compiled else package
        return (
            f"Global.device is {name}, but Paddle {paddle.__version__} cannot use one: {reason}. "
            "To run on the CPU: -o Global.device=cpu"
        )
    if colon and distributed.world_size() > 1:
        return f"Global.device is {name}, but each process has its own GPU: leave out the number, and use --gpus."
    if colon and int(index) >= count:
        return f"Global.device is {name}, but there are {count} GPUs, numbered from 0."
    return None


def device_memory() -> int:
    """Bytes that this process may allocate: the GPU's memory, or its share of the machine's."""
    if paddle.get_device() != "cpu":
        return int(paddle.device.cuda.get_device_properties().total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // distributed.world_size()


def refuse_onednn_training() -> None:
    """Raise a ValueError if oneDNN kernels are enabled: they give wrong gradients in training."""
    if paddle.get_flags([_ONEDNN_FLAG])[_ONEDNN_FLAG]:
        raise ValueError(
            "oneDNN is switched on (FLAGS_use_onednn or FLAGS_use_mkldnn in the environment); Paddle's oneDNN kernels "
            "give wrong gradients in training. Unset the variable; evaluation enables oneDNN itself."
        )


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed Paddle's generator (dropout) for one step, so that a resumed run draws the same numbers."""
    paddle.seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0]))


def agree_on_overflow(parameters: Sequence[paddle.Tensor]) -> None:
    """Let all ranks skip the step if one overflows: unlike averaged gradients, those of head shards differ by rank."""
    own = [p.grad for p in parameters if p.is_distributed]
    if own and distributed.any_rank(not all(paddle.isfinite(gradient).all().item() for gradient in own)):
        paddle.assign(paddle.full_like(own[0], float("inf")), own[0])


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
        level: Literal["O1", "O2"] | None = None,
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

    @property
    def loss_scale(self) -> str:
        """The current loss scale for messages, or "off"."""
        return "off" if self.level is None else f"{np.asarray(self.scaler.state_dict()['scale']).item():g}"

    @property
    def skipped_step(self) -> bool:
        """Whether the scaler skipped the last optimizer step for a non-finite gradient; the same on all ranks."""
        # Paddle has no public API for it; the attribute exists in 2.6 and 3.x.
        return self.level is not None and bool(self.scaler._found_inf.item())

    def autocast(self) -> AbstractContextManager[None]:
        if self.level is None:
            return nullcontext()
        return paddle.amp.auto_cast(level=self.level, dtype=self.dtype)

    def decorate(self, backbone: nn.Layer, optimizer: paddle.optimizer.Optimizer) -> None:
        """For O2, keep the backbone's weights in half precision, with float32 master weights in the optimizer."""
        if self.level == "O2":
            paddle.amp.decorate(backbone, optimizers=optimizer, level="O2", dtype=self.dtype, master_weight=True)
