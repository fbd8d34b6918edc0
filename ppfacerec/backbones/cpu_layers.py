"""Layers that train faster on the CPU than Paddle's, with the same parameters and the same maths.

They take effect only in eager training on the CPU, in float32 and float64. GPUs, evaluation and exported graphs use
Paddle's own layer.
"""

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn


class PReLU(nn.PReLU):
    """PReLU with one slope per channel, ``nn.PReLU(num_parameters=channels)``.

    Paddle's CPU kernels for it are scalar loops: a third of a training step of MobileFaceNet, nearly half once the
    matrix products are fast (`cpu_tuning`). Batch norm with fixed statistics is a vectorised product with a factor per
    channel, including that factor's gradient, so max(x, 0) + a * min(x, 0) is computed as x + batch_norm(min(x, 0))
    with mean 0, variance 1 and weight a - 1. Paddle 3.3.1, [32, 128, 28, 28], 1 thread: forward 17 -> 3.6 ms, backward
    36 -> 5.7 ms; MobileFaceNet trains 1.8 times as fast and keeps one more activation per layer (+20 to 30 % memory).

    At exactly 0, where the derivative is undefined, the slope is 1; Paddle's kernel uses a.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and paddle.in_dynamic_mode() and _is_cpu_float(x):
            return _prelu_as_batch_norm(x, self._weight)
        return F.prelu(x, self._weight)


def _is_cpu_float(x: Tensor) -> bool:
    return x.place.is_cpu_place() and x.dtype in (paddle.float32, paddle.float64)


def _prelu_as_batch_norm(x: Tensor, slope: Tensor) -> Tensor:
    mean, variance = paddle.zeros_like(slope), paddle.ones_like(slope)
    # The bias is 0, but a function of the slope: if the bias needs no gradient, Paddle computes none for the weight.
    bias = slope * 0.0
    negative = paddle.clip(x, max=0.0)
    return x + F.batch_norm(negative, mean, variance, slope - 1.0, bias, training=False, epsilon=0.0)


class Flat(nn.Layer):
    """[N, C, H, W] -> [N, size], by a reshape to a constant.

    A ``flatten`` (Shape, Slice, Concat, Reshape in ONNX) leaves a single row in OpenCV 4 for any batch size and crashes
    Paddle-Lite's converter; ``reshape([x.shape[0], -1])`` crashes oneDNN.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape([-1, self.size])
