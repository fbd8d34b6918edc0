"""insightface's MobileFaceNets (`mbf` and `mbf_large`), wider than the paper's, with arcface_torch's parameter names.

Chen, Liu, Gao, Han: "MobileFaceNets", 2018 (arXiv:1804.07573). Compared with table 1 of the paper, the channels are
doubled (quadrupled in the large one), the bottlenecks' inner channels are unchanged, and a fully connected layer with
batch norm outputs the embedding.
"""

import math

from paddle import Tensor, nn

from ppfacerec.backbones.checks import face_shape
from ppfacerec.backbones.cpu_layers import Flat, PReLU
from ppfacerec.core.ranges import require_count


class ConvBlock(nn.Layer):
    """Convolution, batch norm and, unless `linear`, PReLU. Weights are drawn from N(0, 2 / fan_out)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, *, groups: int = 1,
        linear: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        # PyTorch computes the fan-out of a grouped convolution like that of a plain one: kernel^2 * out_channels
        weight = nn.initializer.Normal(0.0, math.sqrt(2.0 / (kernel * kernel * out_channels)))
        padding = 1 if kernel == 3 else 0
        conv = nn.Conv2D(
            in_channels, out_channels, kernel, stride, padding, groups=groups, weight_attr=weight, bias_attr=False
        )
        activation = [] if linear else [PReLU(out_channels)]
        self.layers = nn.Sequential(conv, nn.BatchNorm2D(out_channels), *activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class DepthWise(nn.Layer):
    """1x1 convolution to `inner` channels, 3x3 depthwise, 1x1 projection; optionally with a residual connection."""

    def __init__(self, in_channels: int, out_channels: int, inner: int, stride: int = 1, residual: bool = True) -> None:
        super().__init__()
        self.residual = residual
        self.layers = nn.Sequential(
            ConvBlock(in_channels, inner),
            ConvBlock(inner, inner, 3, stride, groups=inner),
            ConvBlock(inner, out_channels, linear=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class Residuals(nn.Layer):
    """A stack of residual bottlenecks."""

    def __init__(self, channels: int, inner: int, count: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(DepthWise(channels, channels, inner) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Embedding(nn.Layer):
    """Global depthwise convolution, fully connected layer without bias, batch norm: [N, 512, 7, 7] -> [N, D]."""

    def __init__(self, embedding_size: int) -> None:
        super().__init__()
        weight = nn.initializer.Normal(0.0, math.sqrt(2.0 / embedding_size))
        self.layers = nn.Sequential(
            ConvBlock(512, 512, 7, groups=512, linear=True),
            Flat(512),
            nn.Linear(512, embedding_size, weight_attr=weight, bias_attr=False),
            nn.BatchNorm1D(embedding_size),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class MobileFaceNetInsight(nn.Layer):
    """insightface's ``mbf``, 0.45 GFLOPs.

    Args:
        embedding_size: length of the embedding.

    Shapes:
        images [N, 3, 112, 112] float32 -> embedding [N, embedding_size], not normalised.

    Raises:
        ValueError: `embedding_size` is not a positive int, or the images have another shape.
    """

    scale = 2  # factor on the paper's channels
    counts = (1, 4, 6, 2)  # residual bottlenecks at 56, 28, 14 and 7 pixels; 1 at 56: a grouped convolution instead

    def __init__(self, embedding_size: int = 512) -> None:
        super().__init__()
        self.embedding_size = require_count(f"{type(self).__name__}.embedding_size", embedding_size)
        narrow, wide = 64 * self.scale, 128 * self.scale
        first, second, third, fourth = self.counts
        self.layers = nn.LayerList(
            [
                ConvBlock(3, narrow, 3, 2),
                ConvBlock(narrow, narrow, 3, groups=64) if first == 1 else Residuals(narrow, 128, first),
                DepthWise(narrow, narrow, 128, 2, residual=False),
                Residuals(narrow, 128, second),
                DepthWise(narrow, wide, 256, 2, residual=False),
                Residuals(wide, 256, third),
                DepthWise(wide, wide, 512, 2, residual=False),
                Residuals(wide, 256, fourth),
            ]
        )
        self.conv_sep = ConvBlock(wide, 512)
        self.features = Embedding(embedding_size)

    def forward(self, images: Tensor) -> Tensor:
        face_shape(type(self).__name__, images.shape)
        x = images
        for layer in self.layers:
            x = layer(x)
        return self.features(self.conv_sep(x))  # from (N, 128 * scale, 7, 7)


class MobileFaceNetInsightLarge(MobileFaceNetInsight):
    """insightface's ``mbf_large``."""

    scale = 4
    counts = (2, 8, 12, 4)
