"""From a batch of images to what a network takes."""

import paddle

from ppfacerec.data.transforms.basic import NormalizeImage


def to_network_input(images: paddle.Tensor, normalize: NormalizeImage) -> paddle.Tensor:
    """uint8 NHWC images to the backbone's: float32 NCHW, (x * scale - mean) / std, computed on the device."""
    mean = paddle.to_tensor(normalize.mean, dtype="float32")
    std = paddle.to_tensor(normalize.std, dtype="float32")
    values = (images.astype("float32") * normalize.scale - mean) / std  # (N, H, W, 3)
    return values.transpose([0, 3, 1, 2])
