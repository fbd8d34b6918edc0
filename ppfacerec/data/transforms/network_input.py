"""Network input from a batch of images."""

import paddle

from ppfacerec.data.transforms.basic import NormalizeImage


def to_network_input(images: paddle.Tensor, normalize: NormalizeImage) -> paddle.Tensor:
    """Convert uint8 NHWC images to float32 NCHW, (x * scale - mean) / std, on the device."""
    mean = paddle.to_tensor(normalize.mean, dtype="float32")
    std = paddle.to_tensor(normalize.std, dtype="float32")
    values = (images.astype("float32") * normalize.scale - mean) / std  # (N, H, W, 3)
    return values.transpose([0, 3, 1, 2])
