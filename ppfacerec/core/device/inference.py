"""Inference with a backbone: eager, or on the CPU through Paddle Inference with oneDNN."""

from __future__ import annotations

import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import paddle
from paddle import nn

from ppfacerec.core.device.paddle_thread import PADDLE_LOCK, PADDLE_THREAD, Remade
from ppfacerec.core.log import logger

Result = TypeVar("Result")

PARITY_TOLERANCE = 1e-4
# Images per call on the CPU. With 64, every oneDNN operator mapped and unmapped its activations, which took half of the
# time. Eager is as fast with 8 as with 64 and takes 0.4 GB less.
_CPU_CHUNK = 8


class InferenceRunner:
    """Run a backbone in inference mode; oneDNN on the CPU is about 4 times as fast as eager with `tune_cpu`.

    oneDNN runs a copy of the current weights: create a new runner when they change (1 to 2 seconds). It runs in Paddle
    Inference, not as a static graph under FLAGS_use_onednn, which crashes Paddle 3.3.1 (segmentation fault) where a
    Linear follows a flatten; and eager training must never see that flag.

    Runners are thread-safe; after a fork, oneDNN's copy is made again, from the weights at that time. The first images
    are run with both backends: if they differ by more than 1e-4 of the largest value, the eager result is used, with a
    warning.

    Args:
        backbone: put into eval mode by the caller.
        backend: "eager", "onednn", or "auto": oneDNN on the CPU, eager on a GPU.

    Raises:
        ValueError: oneDNN was requested on a GPU.
    """

    def __init__(self, backbone: nn.Layer, backend: Literal["auto", "eager", "onednn"] = "auto") -> None:
        self._backbone = backbone
        self.embedding_size: int = backbone.embedding_size
        self._on_cpu = on_cpu = paddle.get_device() == "cpu"
        if backend == "onednn" and not on_cpu:
            raise ValueError("Global.eval_backend is onednn, which runs on the CPU; use auto or eager on a GPU.")
        self._predictor: Predictor | None = None
        self._untried = backend != "eager" and on_cpu

    @property
    def backend(self) -> str:
        return "onednn" if self._predictor else "eager"

    def __call__(self, images: np.ndarray | paddle.Tensor) -> np.ndarray:
        """Embeddings (N, D) float32 of images (N, 3, 112, 112)."""
        return in_turn(lambda: self._embed(images))

    def _embed(self, images: np.ndarray | paddle.Tensor) -> np.ndarray:
        if self._untried:
            self._predictor = self._tried_predictor(np.asarray(images[:4]))
            self._untried = False
        if self._predictor:
            images = np.asarray(images)
        run, chunk = self._predictor or self._eager, _CPU_CHUNK if self._on_cpu else len(images)
        return np.concatenate([run(images[i : i + chunk]) for i in range(0, len(images), chunk)])

    @paddle.no_grad()
    def _eager(self, images: np.ndarray | paddle.Tensor) -> np.ndarray:
        result: np.ndarray = self._backbone(paddle.to_tensor(images)).astype("float32").numpy()
        return result

    def _tried_predictor(self, images: np.ndarray) -> Predictor | None:
        layer = TracedBackbone(self._backbone)
        layer.eval()
        spec = paddle.static.InputSpec([None, *images.shape[1:]], "float32", "images")

        def made() -> Any:
            with tempfile.TemporaryDirectory(prefix="ppfacerec_") as folder:
                save_program(layer, spec, Path(folder) / "backbone")
                return native_predictor(Path(folder) / "backbone")

        try:
            predictor = Predictor(made)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # tracing a plugin's forward may raise anything
            why = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
            logger.warning("The network cannot be traced for oneDNN (%s): evaluating without it, more slowly.", why)
            return None
        eager, onednn = self._eager(images), predictor(images)
        difference = np.abs(onednn - eager).max() / max(np.abs(eager).max(), 1e-30)
        if difference <= PARITY_TOLERANCE or not np.isfinite(eager).all():  # the metric reports NaN weights
            return predictor
        logger.warning(
            "oneDNN's embeddings differ from eager's by %.1e of the largest value (allowed: %.0e); evaluating without "
            "oneDNN, more slowly.", difference, PARITY_TOLERANCE,
        )  # fmt: skip
        return None


def in_turn(work: Callable[[], Result]) -> Result:
    """Run `work` while no other thread uses Paddle, and return its result.

    On the CPU it runs in `PADDLE_THREAD`; on a GPU in the caller's thread, as each thread has its own current GPU.
    """
    if paddle.get_device() == "cpu":
        return PADDLE_THREAD.run(work)
    with PADDLE_LOCK:
        return work()


def _call(layer: nn.Layer, images: paddle.Tensor) -> paddle.Tensor:
    return layer(images)


def is_ours(network: Any) -> bool:
    """Whether a network, or the class of one, belongs to this package and not to a user."""
    return bool(network.__module__.startswith("ppfacerec."))


_call_as_written = paddle.jit.not_to_static(lambda layer, images: layer(images))


class TracedBackbone(nn.Layer):
    """Wrap a backbone, because to_static replaces the forward of its argument.

    Paddle translates the Python code that it traces, to support branches on tensor values. The package's own backbones
    have none and are traced untranslated: 0.25 instead of 2 seconds for a MobileFaceNet, and the same program.
    """

    def __init__(self, backbone: nn.Layer) -> None:
        super().__init__()
        self.backbone = backbone
        self.call = _call_as_written if is_ours(backbone) else _call

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.call(self.backbone, images)


class Predictor:
    """A thread-safe inference model, which runs one call at a time.

    Paddle's predictor has one input and one output, which concurrent calls would overwrite. A clone for each thread
    takes a second to create and the memory of a model, and two threads on two cores gained little.

    Args:
        make: creates Paddle's predictor, also again after a fork.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._predictor = Remade(make)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return PADDLE_THREAD.run(lambda: self._run(images))

    def _run(self, images: np.ndarray) -> np.ndarray:
        predictor = self._predictor.get()
        given = predictor.get_input_handle(predictor.get_input_names()[0])
        given.reshape(images.shape)
        given.copy_from_cpu(np.ascontiguousarray(images))
        predictor.run()
        output = predictor.get_output_handle(predictor.get_output_names()[0])
        result: np.ndarray = output.copy_to_cpu()
        return result


def save_program(layer: nn.Layer, spec: paddle.static.InputSpec, prefix: Path) -> None:
    """Trace a layer and write it as an inference model (``<prefix>.json`` or .pdmodel, .pdiparams); see `in_turn`."""
    with _without_call_stacks(), _own_forwards(layer):
        paddle.jit.save(paddle.jit.to_static(layer, input_spec=[spec], full_graph=True), str(prefix))


@contextmanager
def _own_forwards(network: nn.Layer) -> Iterator[None]:
    """Restore the layers' forwards: Paddle 2.6 leaves its translation in them, and training would run it."""
    layers = network.sublayers(include_self=True)
    before = [vars(layer).get("forward") for layer in layers]
    try:
        yield
    finally:
        for layer, forward in zip(layers, before):
            vars(layer).pop("forward", None)
            if forward is not None:
                vars(layer)["forward"] = forward


@contextmanager
def _without_call_stacks() -> Iterator[None]:
    """Record no call stacks: Paddle 3 never frees those of traced operators, 4 MB for a MobileFaceNet."""
    extract, thread = traceback.extract_stack, threading.get_ident()

    def nothing_here(*args: Any, **kwargs: Any) -> traceback.StackSummary:
        is_traced = threading.get_ident() == thread
        return traceback.StackSummary() if is_traced else extract(*args, **kwargs)

    traceback.extract_stack = nothing_here
    try:
        yield
    finally:
        traceback.extract_stack = extract


def program_file(prefix: Path) -> Path:
    """Return the program file of an inference model: .json from Paddle 3.x, .pdmodel from 2.6."""
    program = prefix.with_name(f"{prefix.name}.json")
    return program if program.exists() else prefix.with_name(f"{prefix.name}.pdmodel")


def create_predictor(prefix: Path, onednn: bool = True, num_threads: int = 1) -> Predictor:
    """Load the inference model `prefix` (its files without suffix) for the CPU, with oneDNN's kernels or Paddle's."""
    return Predictor(lambda: native_predictor(prefix, onednn, num_threads))


def native_predictor(prefix: Path, onednn: bool = True, num_threads: int = 1) -> Any:
    """Create Paddle's predictor, for `Predictor`."""
    from paddle import inference

    config = inference.Config(str(program_file(prefix)), f"{prefix}.pdiparams")
    config.disable_gpu()
    config.disable_glog_info()
    # oneDNN's older name, valid in 2.6 and 3.x; both enable it by default
    config.enable_mkldnn() if onednn else config.disable_mkldnn()
    config.set_cpu_math_library_num_threads(num_threads)
    return inference.create_predictor(config)
