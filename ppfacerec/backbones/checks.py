"""Checks shared by the backbones."""

from collections.abc import Sequence

import paddle

from ppfacerec.core.image_size import IMAGE_SIZE


def face_shape(owner: str, shape: Sequence[int]) -> None:
    """Reject images that are not [N, 3, 112, 112]; otherwise another size fails later and less clearly.

    Raises:
        ValueError: the images have another shape.
    """
    if paddle.in_dynamic_mode() and list(shape[1:]) != [3, IMAGE_SIZE, IMAGE_SIZE]:
        raise ValueError(
            f"{owner} takes images of shape [N, 3, {IMAGE_SIZE}, {IMAGE_SIZE}], found {list(shape)}. "
            f"Resize them first, e.g. with ResizeImage: {{size: [{IMAGE_SIZE}, {IMAGE_SIZE}]}}."
        )
