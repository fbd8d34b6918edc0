"""IResNet-18 to -200: insightface's residual networks for faces, with its parameter names.

Duta, Liu, Zhu, Shao: "Improved Residual Networks for Image and Video Recognition", 2020 (arXiv:2004.04989), in the
version of Deng et al., "ArcFace", 2018 (arXiv:1801.07698), section 3.1: batch norm before and after each convolution,
PReLU, a first convolution of stride 1, and the BN-Dropout-FC-BN end.
"""

from __future__ import annotations

import math

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from ppfacerec.backbones.checks import face_shape, positive_int
from ppfacerec.backbones.cpu_layers import PReLU
from ppfacerec.backbones.recompute import forward_and_forget

STAGE_CHANNELS = (64, 128, 256, 512)
FINAL_AREA = 7 * 7  # four stages of stride 2 leave 7x7 of a 112x112 face


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2D:
    """A convolution without bias, weights drawn from N(0, 0.1^2)."""
    return nn.Conv2D(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=kernel // 2,
        weight_attr=nn.initializer.Normal(0.0, 0.1),
        bias_attr=False,
    )


class Block(nn.Layer):
    """BN, 3x3 convolution, BN, PReLU, 3x3 convolution with the stride, BN; plus the shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2D(in_channels)
        self.conv1 = conv(in_channels, channels, 3)
        self.bn2 = nn.BatchNorm2D(channels)
        self.prelu = PReLU(channels)
        self.conv2 = conv(channels, channels, 3, stride)
        self.bn3 = nn.BatchNorm2D(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(conv(in_channels, channels, 1, stride), nn.BatchNorm2D(channels))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(x)) + shortcut


class FixedScaleBatchNorm1D(nn.BatchNorm1D):
    """Batch norm over [N, C] whose weight stays 1; the bias is trained.

    Paddle's CPU kernel (2.6.2, 3.3.1) gives the bias a gradient of 0 when the weight has ``stop_gradient``, so that in
    training a copy that takes a gradient stands in for the weight.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features, weight_attr=paddle.ParamAttr(trainable=False))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if self.training:
            weight = weight.detach()
            weight.stop_gradient = False
        return F.batch_norm(
            x, self._mean, self._variance, weight, self.bias, self.training, self._momentum, self._epsilon
        )


class IResNet(nn.Layer):
    """Base of the five depths; a subclass only names its number of blocks in each stage.

    Initialisation is insightface's: convolutions from N(0, 0.1^2), batch norm weight 1 and bias 0, PReLU 0.25, fc from
    U(-1/sqrt(fan_in), 1/sqrt(fan_in)). The last batch norm's weight stays 1 and is not trained.

    Args:
        num_features: length of the embedding.
        dropout: probability that an input of fc is dropped in training, in [0, 1).
        recompute: keep only the blocks' inputs for the backward and compute the rest again: the same gradients with
            less memory, for about a third more time (docs/distributed.md has figures).

    Shapes:
        images [N, 3, 112, 112] float32 -> embedding [N, num_features], not normalised.

    Raises:
        ValueError: `num_features` is not a positive int, `dropout` is outside [0, 1), or the images have another shape.
    """

    depths: tuple[int, int, int, int]

    def __init__(self, num_features: int = 512, dropout: float = 0.0, recompute: bool = False) -> None:
        super().__init__()
        self.recompute = recompute
        self.embedding_size = positive_int(type(self).__name__, "num_features", num_features)
        if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
            raise ValueError(f"{type(self).__name__}: dropout must be a number in [0, 1), found {dropout!r}.")
        self.conv1 = conv(3, 64, 3)
        self.bn1 = nn.BatchNorm2D(64)
        self.prelu = PReLU(64)
        in_channels = 64
        for i, (depth, channels) in enumerate(zip(self.depths, STAGE_CHANNELS), start=1):
            blocks = [Block(in_channels, channels, stride=2)]
            blocks += [Block(channels, channels, stride=1) for _ in range(depth - 1)]
            self.add_sublayer(f"layer{i}", nn.Sequential(*blocks))
            in_channels = channels
        self.bn2 = nn.BatchNorm2D(in_channels)
        self.dropout = nn.Dropout(dropout)
        fan_in = in_channels * FINAL_AREA
        uniform = nn.initializer.Uniform(-1.0 / math.sqrt(fan_in), 1.0 / math.sqrt(fan_in))
        self.fc = nn.Linear(fan_in, num_features, weight_attr=uniform, bias_attr=paddle.ParamAttr(initializer=uniform))
        # A scale of the whole embedding would be lost in its normalisation, so the weight is not trained.
        self.features = FixedScaleBatchNorm1D(num_features)

    def forward(self, images: Tensor) -> Tensor:
        face_shape(type(self).__name__, images.shape)
        x = self.prelu(self.bn1(self.conv1(images)))  # (N, 64, 112, 112)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x = forward_and_forget(block, x) if self.recompute else block(x)
        # now x is (N, 512, 7, 7)
        x = self.dropout(self.bn2(x)).flatten(1)  # (N, 25088)
        return self.features(self.fc(x))


class IResNet18(IResNet):
    depths = (2, 2, 2, 2)


class IResNet34(IResNet):
    depths = (3, 4, 6, 3)


class IResNet50(IResNet):
    depths = (3, 4, 14, 3)


class IResNet100(IResNet):
    depths = (3, 13, 30, 3)


class IResNet200(IResNet):
    depths = (6, 26, 60, 6)
