"""ResNet-50 with PaddleClas's parameter names and its options for face recognition.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", 2015 (arXiv:1512.03385), table 1. The stride of a
bottleneck is on its 3x3 convolution ("v1.5"), as in PaddleClas and torchvision.
"""

import math
from collections.abc import Sequence

import paddle.nn.functional as F
from paddle import Tensor, nn

from ppfacerec.core.ranges import require_count

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))  # blocks and inner channels; a block's output is 4 times as wide


class ConvBN(nn.Layer):
    """Convolution without bias, then batch norm; padded so that stride 1 keeps the size."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2D(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias_attr=False)
        self.bn = nn.BatchNorm2D(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class Bottleneck(nn.Layer):
    """1x1, 3x3 and 1x1 convolutions and a shortcut, which is a 1x1 convolution in the first block of a stage."""

    def __init__(self, in_channels: int, channels: int, stride: int, first: bool) -> None:
        super().__init__()
        self.conv0 = ConvBN(in_channels, channels, 1)
        self.conv1 = ConvBN(channels, channels, 3, stride)
        self.conv2 = ConvBN(channels, channels * 4, 1)
        self.short = ConvBN(in_channels, channels * 4, 1, stride) if first else None

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.short is None else self.short(x)
        x = F.relu(self.conv0(x))
        x = F.relu(self.conv1(x))
        return F.relu(shortcut + self.conv2(x))


class ResNet50(nn.Layer):
    """ResNet-50; the fully connected layer's output is the embedding.

    PaddleClas's face recipe is ``max_pool=False, stride_list=[1, 2, 2, 2, 2], class_num=512``: total stride 16, so a
    112x112 face gives a 7x7 map. Initialisation: convolutions from N(0, 2 / fan_in), Paddle's default; batch norm
    weight 1 and bias 0; fc weight from U(-1/sqrt(2048), 1/sqrt(2048)), bias 0.

    Args:
        max_pool: a 3x3 max pool after the 7x7 stem.
        stride_list: strides of the stem, of the max pool (of stage 1 when `max_pool` is off), of stages 2, 3 and 4.
        embedding_size: length of the embedding; PaddleClas calls it `class_num`.

    Shapes:
        images [N, 3, 112, 112] float32 -> embedding [N, embedding_size], not normalised.

    Raises:
        ValueError: `stride_list` is not 5 positive ints, or `embedding_size` is not a positive int.
    """

    def __init__(
        self, max_pool: bool = True, stride_list: Sequence[int] = (2, 2, 2, 2, 2), embedding_size: int = 1000
    ) -> None:
        super().__init__()
        self.embedding_size = require_count("ResNet50.embedding_size", embedding_size)
        stem_stride, first_stride, *stage_strides = _checked_strides(stride_list)
        self.stem = nn.Sequential(ConvBN(3, 64, 7, stem_stride))
        self.pool = nn.MaxPool2D(3, first_stride, padding=1) if max_pool else None
        in_channels, blocks = 64, []
        for (depth, channels), stride in zip(STAGES, [1 if max_pool else first_stride, *stage_strides]):
            for i in range(depth):
                blocks.append(Bottleneck(in_channels, channels, stride if i == 0 else 1, first=i == 0))
                in_channels = channels * 4
        self.blocks = nn.Sequential(*blocks)
        bound = 1.0 / math.sqrt(in_channels)
        self.fc = nn.Linear(in_channels, embedding_size, weight_attr=nn.initializer.Uniform(-bound, bound))

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.stem(images))  # (N, 64, 112, 112) in the face recipe
        if self.pool is not None:
            x = self.pool(x)
        x = self.blocks(x)  # (N, 2048, 7, 7)
        x = F.adaptive_avg_pool2d(x, 1).reshape([-1, self.fc.weight.shape[0]])  # (N, 2048)
        return self.fc(x)


def _checked_strides(strides: Sequence[int]) -> list[int]:
    valid = isinstance(strides, (list, tuple)) and len(strides) == 5
    if not valid or any(isinstance(s, bool) or not isinstance(s, int) or s < 1 for s in strides):
        raise ValueError(
            "ResNet50: stride_list must be 5 positive ints (stem, max pool or stage 1, stages 2, 3 and 4), "
            f"found {strides!r}."
        )
    return list(strides)
