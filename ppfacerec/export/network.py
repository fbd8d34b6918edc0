"""The exported network: a backbone, optionally with preprocessing inside the graph."""

import copy
from dataclasses import replace
from pathlib import Path

import paddle
from paddle import nn

from ppfacerec.core.device.inference import TracedBackbone
from ppfacerec.core.image_size import IMAGE_SHAPE, IMAGE_SIZE
from ppfacerec.inference.parity import TOLERANCE, relative_difference, spread_images
from ppfacerec.weights.info import ModelInfo

INPUT, OUTPUT = "images", "embedding"


def rgb_network(backbone: nn.Layer, info: ModelInfo) -> tuple[nn.Layer, ModelInfo]:
    """Return a network for RGB and its info without local paths; a network for BGR is copied and converted.

    Raises:
        ValueError: a network for BGR has not exactly one three-channel convolution, or uses the channels elsewhere too.
    """
    data = info.training_data and "/".join(Path(info.training_data).parts[-2:])
    info = replace(info, config=None, training_data=data)
    if info.colors == "RGB":
        return backbone, info
    swapped = copy.deepcopy(backbone)
    first = [m for m in swapped.sublayers() if isinstance(m, nn.Conv2D) and m.weight.shape[1] == 3 and m._groups == 1]
    for convolution in first:
        convolution.weight.set_value(convolution.weight.flip(axis=[1]))
    images = paddle.to_tensor(spread_images(2))
    with paddle.no_grad():
        expected, found = backbone(images.flip(axis=[1])).numpy(), swapped(images).numpy()
    if len(first) != 1 or not relative_difference(expected, found) <= TOLERANCE:
        raise ValueError(
            "The network takes BGR and has no single first convolution in which red and blue could be swapped; "
            "programs that run exported models pass RGB. Train it on RGB (DecodeImage.to_rgb: True) to export it."
        )
    return swapped, replace(info, colors="RGB", mean=info.mean[::-1], std=info.std[::-1])


class ExportedNetwork(TracedBackbone):
    """A static graph's network: RGB pixels (N, 112, 112, 3) or normalised (N, 3, 112, 112) to raw embeddings."""

    def __init__(self, backbone: nn.Layer, info: ModelInfo, uint8_input: bool) -> None:
        super().__init__(backbone)
        self.uint8_input = uint8_input
        self._scale = info.scale
        self.register_buffer("_mean", paddle.to_tensor(info.mean, dtype="float32"), persistable=False)
        self.register_buffer("_std", paddle.to_tensor(info.std, dtype="float32"), persistable=False)
        self.eval()

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        if self.uint8_input:
            images = ((images.astype("float32") * self._scale - self._mean) / self._std).transpose([0, 3, 1, 2])
        return self.call(self.backbone, images)

    def input_spec(self) -> paddle.static.InputSpec:
        """Return shape and dtype of the input, for any batch size."""
        if self.uint8_input:
            return paddle.static.InputSpec([None, *IMAGE_SHAPE], "uint8", INPUT)
        return paddle.static.InputSpec([None, 3, IMAGE_SIZE, IMAGE_SIZE], "float32", INPUT)
