"""IR-18 to IR-101: AdaFace's residual networks, with its parameter names.

Kim, Jain, Liu: "AdaFace: Quality Adaptive Margin for Face Recognition", 2022 (arXiv:2204.00964), on the residual block
of Deng et al., "ArcFace", 2018 (arXiv:1801.07698), section 3.1. They differ from `iresnet` in the shortcut of the first
stage, which is a subsampling instead of a convolution, and in the last batch norm, which has no weight and bias.
**AdaFace's published weights take BGR images.**
"""

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from ppfacerec.backbones import residual
from ppfacerec.backbones.checks import face_shape
from ppfacerec.backbones.cpu_layers import Flat, PReLU
from ppfacerec.backbones.residual import FINAL_AREA, STAGE_CHANNELS, ResidualNet


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2D:
    """A convolution without bias, weights drawn from N(0, 2 / (kernel^2 * out_channels))."""
    fan_out = kernel * kernel * out_channels
    return residual.conv(in_channels, out_channels, kernel, stride, deviation=(2.0 / fan_out) ** 0.5)


class Block(nn.Layer):
    """BN, 3x3 convolution, BN, PReLU, 3x3 convolution with the stride, BN; plus the shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        if in_channels == channels:
            self.shortcut_layer = nn.MaxPool2D(1, stride)  # stride 1: identity
        else:
            self.shortcut_layer = nn.Sequential(conv(in_channels, channels, 1, stride), nn.BatchNorm2D(channels))
        self.res_layer = nn.Sequential(
            nn.BatchNorm2D(in_channels),
            conv(in_channels, channels, 3),
            nn.BatchNorm2D(channels),
            PReLU(channels),
            conv(channels, channels, 3, stride),
            nn.BatchNorm2D(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class FixedBatchNorm1D(nn.BatchNorm1D):
    """Batch norm over [N, C] without weight and bias (``affine=False`` in PyTorch).

    Paddle Inference with oneDNN crashes if they are None (2.6.2, 3.3.1: segmentation fault), so ones and zeros replace
    them; they are not saved.
    """

    def __init__(self, embedding_size: int) -> None:
        super().__init__(embedding_size, weight_attr=False, bias_attr=False)
        self.register_buffer("_ones", paddle.ones([embedding_size]), persistable=False)
        self.register_buffer("_zeros", paddle.zeros([embedding_size]), persistable=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self._mean, self._variance, self._ones, self._zeros, self.training, self._momentum, self._epsilon
        )


class IR(ResidualNet):
    """Base class of the four depths; arguments, shapes and errors are those of ``ResidualNet``.

    AdaFace's initialisation: convolutions and fully connected layer from N(0, 2 / fan_out), biases 0, PReLU 0.25.
    """

    def __init__(self, embedding_size: int = 512, dropout: float = 0.4, recompute: bool = False) -> None:
        super().__init__(embedding_size, dropout, recompute)
        self.input_layer = nn.Sequential(conv(3, 64, 3), nn.BatchNorm2D(64), PReLU(64))
        blocks, in_channels = [], 64
        for depth, channels in zip(self.depths, STAGE_CHANNELS):
            for i in range(depth):
                blocks.append(Block(in_channels, channels, stride=2 if i == 0 else 1))
                in_channels = channels
        self.body = nn.Sequential(*blocks)
        weight = nn.initializer.Normal(0.0, (2.0 / embedding_size) ** 0.5)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2D(in_channels),
            nn.Dropout(dropout),
            Flat(in_channels * FINAL_AREA),
            nn.Linear(in_channels * FINAL_AREA, embedding_size, weight_attr=weight),
            FixedBatchNorm1D(embedding_size),
        )

    def forward(self, images: Tensor) -> Tensor:
        face_shape(type(self).__name__, images.shape)
        x = self.input_layer(images)  # (N, 64, 112, 112)
        return self.output_layer(self.through(self.body, x))  # from (N, 512, 7, 7)


class IR18(IR):
    depths = (2, 2, 2, 2)


class IR34(IR):
    depths = (3, 4, 6, 3)


class IR50(IR):
    depths = (3, 4, 14, 3)


class IR101(IR):
    depths = (3, 13, 30, 3)
