"""IResNet-18 to -200: insightface's residual networks for faces, with its parameter names.

Duta, Liu, Zhu, Shao: "Improved Residual Networks for Image and Video Recognition", 2020 (arXiv:2004.04989), in the
version of Deng et al., "ArcFace", 2018 (arXiv:1801.07698), section 3.1: batch norm before and after each convolution,
PReLU, a first convolution of stride 1, and a BN-Dropout-FC-BN output.
"""

import math

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from ppfacerec.backbones import residual
from ppfacerec.backbones.checks import face_shape
from ppfacerec.backbones.cpu_layers import PReLU
from ppfacerec.backbones.residual import FINAL_AREA, STAGE_CHANNELS, ResidualNet


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2D:
    """A convolution without bias, weights drawn from N(0, 0.1^2)."""
    return residual.conv(in_channels, out_channels, kernel, stride, deviation=0.1)


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

    Paddle's CPU kernel (2.6.2, 3.3.1) gives the bias a gradient of 0 when the weight has ``stop_gradient``, so training
    uses a copy of the weight that requires a gradient.
    """

    def __init__(self, embedding_size: int) -> None:
        super().__init__(embedding_size, weight_attr=paddle.ParamAttr(trainable=False))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if self.training:
            weight = weight.detach()
            weight.stop_gradient = False
        return F.batch_norm(
            x, self._mean, self._variance, weight, self.bias, self.training, self._momentum, self._epsilon
        )


class IResNet(ResidualNet):
    """Base class of the five depths; arguments, shapes and errors are those of ``ResidualNet``.

    Initialisation is insightface's: convolutions from N(0, 0.1^2), batch norm weight 1 and bias 0, PReLU 0.25, fc from
    U(-1/sqrt(fan_in), 1/sqrt(fan_in)). The last batch norm's weight stays 1 and is not trained.
    """

    def __init__(self, embedding_size: int = 512, dropout: float = 0.0, recompute: bool = False) -> None:
        super().__init__(embedding_size, dropout, recompute)
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
        bias = paddle.ParamAttr(initializer=uniform)
        self.fc = nn.Linear(fan_in, embedding_size, weight_attr=uniform, bias_attr=bias)
        # Normalisation would cancel a scale of the whole embedding, so the weight is not trained.
        self.features = FixedScaleBatchNorm1D(embedding_size)

    def forward(self, images: Tensor) -> Tensor:
        face_shape(type(self).__name__, images.shape)
        x = self.prelu(self.bn1(self.conv1(images)))  # (N, 64, 112, 112)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = self.through(stage, x)
        # x: (N, 512, 7, 7)
        x = self.dropout(self.bn2(x)).reshape([-1, self.fc.weight.shape[0]])  # (N, 25088)
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
