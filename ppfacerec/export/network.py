"""The network that is exported: the backbone, and the preprocessing inside the graph where asked."""

from __future__ import annotations

import paddle
from paddle import nn

from ppfacerec.model_info import ModelInfo

INPUT, OUTPUT = "images", "embedding"


class ExportedNetwork(nn.Layer):
    """Images to embeddings, not normalised, as a static graph has it.

    Args:
        backbone: in eval mode.
        info: how it wants its images.
        uint8_input: take (N, 112, 112, 3) uint8 RGB pixels; else the backbone's (N, 3, 112, 112) float32.
    """

    def __init__(self, backbone: nn.Layer, info: ModelInfo, uint8_input: bool) -> None:
        super().__init__()
        self.backbone, self.uint8_input = backbone, uint8_input
        self._scale, self._swap = info.scale, info.colors == "BGR"
        self.register_buffer("_mean", paddle.to_tensor(info.mean, dtype="float32"), persistable=False)
        self.register_buffer("_std", paddle.to_tensor(info.std, dtype="float32"), persistable=False)
        self.eval()

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        if self.uint8_input:
            images = images.astype("float32")
            if self._swap:
                images = paddle.flip(images, axis=[3])
            images = ((images * self._scale - self._mean) / self._std).transpose([0, 3, 1, 2])
        return self.backbone(images)

    def input_spec(self) -> paddle.static.InputSpec:
        """Shape and dtype of the input; any number of images."""
        if self.uint8_input:
            return paddle.static.InputSpec([None, 112, 112, 3], "uint8", INPUT)
        return paddle.static.InputSpec([None, 3, 112, 112], "float32", INPUT)
