"""MobileFaceNet: a small face backbone, about 1.2 M parameters.

Chen, Liu, Gao, Han: "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on Mobile Devices",
2018 (arXiv:1804.07573), table 1. Parameter names are PaddleClas's, so its weights load unchanged.
"""

import math

from paddle import Tensor, nn

from ppfacerec.backbones.checks import face_shape
from ppfacerec.backbones.cpu_layers import PReLU
from ppfacerec.core.ranges import require_count

# Table 1 of the paper: expansion, output channels, repeats, stride of the first repeat
BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


def conv(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> nn.Conv2D:
    """A convolution without bias, weights drawn from N(0, 2 / (kernel^2 * out_channels))."""
    std = math.sqrt(2.0 / (kernel * kernel * out_channels))
    return nn.Conv2D(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=padding,
        groups=groups,
        weight_attr=nn.initializer.Normal(0.0, std),
        bias_attr=False,
    )


class ConvBlock(nn.Layer):
    """Convolution, batch norm and, unless `linear`, PReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv = conv(in_channels, out_channels, kernel, stride=stride, padding=padding, groups=groups)
        self.bn = nn.BatchNorm2D(out_channels)
        self.prelu = None if linear else PReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return x if self.prelu is None else self.prelu(x)


class Bottleneck(nn.Layer):
    """1x1 expansion, 3x3 depthwise, 1x1 projection; with a residual connection if the shapes allow it."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.residual = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            conv(in_channels, wide, 1),
            nn.BatchNorm2D(wide),
            PReLU(wide),
            conv(wide, wide, 3, stride=stride, padding=1, groups=wide),
            nn.BatchNorm2D(wide),
            PReLU(wide),
            conv(wide, out_channels, 1),
            nn.BatchNorm2D(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileFaceNet(nn.Layer):
    """MobileFaceNet for 112x112 faces.

    Initialisation: convolutions from N(0, 2 / (kernel^2 * out_channels)), batch norm weight 1 and bias 0, PReLU 0.25.

    Args:
        embedding_size: length of the embedding.

    Shapes:
        images [N, 3, 112, 112] float32 -> embedding [N, embedding_size], not normalised.

    Raises:
        ValueError: `embedding_size` is not a positive int, or the images have another shape.
    """

    def __init__(self, embedding_size: int = 128) -> None:
        super().__init__()
        self.embedding_size = require_count("MobileFaceNet.embedding_size", embedding_size)
        self.conv1 = ConvBlock(3, 64, 3, stride=2, padding=1)
        self.dw_conv1 = ConvBlock(64, 64, 3, padding=1, groups=64)
        channels, blocks = 64, []
        for expansion, out_channels, repeats, first_stride in BOTTLENECKS:
            for i in range(repeats):
                blocks.append(Bottleneck(channels, out_channels, first_stride if i == 0 else 1, expansion))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.conv2 = ConvBlock(channels, 512, 1)
        self.linear7 = ConvBlock(512, 512, 7, groups=512, linear=True)
        self.linear1 = ConvBlock(512, embedding_size, 1, linear=True)

    def forward(self, images: Tensor) -> Tensor:
        face_shape("MobileFaceNet", images.shape)
        x = self.dw_conv1(self.conv1(images))  # (N, 64, 56, 56)
        x = self.conv2(self.blocks(x))  # (N, 512, 7, 7)
        x = self.linear1(self.linear7(x))  # (N, embedding_size, 1, 1)
        return x.reshape([-1, self.embedding_size])
