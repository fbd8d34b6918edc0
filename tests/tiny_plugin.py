"""Backbones small enough for tests that train many steps; named in YAML through ``Global.plugins``."""

from __future__ import annotations

import paddle
from paddle import nn

from ppfacerec.backbones import BACKBONES


@BACKBONES.register
class TinyNet(nn.Layer):
    """Two convolutions with batch norm, dropout and a linear layer: 112 x 112 to 16 numbers."""

    def __init__(self, embedding_size: int = 16, dropout: float = 0.1) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.features = nn.Sequential(
            nn.Conv2D(3, 8, 7, stride=8),
            nn.BatchNorm2D(8),
            nn.PReLU(8),
            nn.Conv2D(8, 16, 3, stride=3),
            nn.BatchNorm2D(16),
            nn.Dropout(dropout),
        )
        self.fc = nn.Linear(16 * 4 * 4, embedding_size)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.fc(self.features(x).flatten(1))


@BACKBONES.register
class PlainNet(TinyNet):
    """TinyNet without batch statistics and dropout: a sample's gradient does not depend on its batch."""

    def __init__(self, embedding_size: int = 16) -> None:
        super().__init__(embedding_size, 0.0)
        self.features = nn.Sequential(nn.Conv2D(3, 8, 7, stride=8), nn.PReLU(8), nn.Conv2D(8, 16, 3, stride=3))
