"""The classifier over identities: cosines to the class centres, with a margin on the target's."""

from __future__ import annotations

from functools import partial

import paddle
from paddle import nn

from ppfacerec.heads.margins import arcface


def normalize(x: paddle.Tensor, axis: int) -> paddle.Tensor:
    """Divide by the L2 norm along `axis`; a zero vector stays zero and gets a finite gradient."""
    square_sum = paddle.sum(x * x, axis=axis, keepdim=True)
    tiny = square_sum < 1e-24  # norm below 1e-12: dividing by it would only blow up rounding errors
    return x / paddle.sqrt(paddle.where(tiny, paddle.ones_like(square_sum), square_sum))


class ArcMargin(nn.Layer):
    """ArcFace head: scaled cosines to the class centres, cos(theta + m) for the target (arXiv:1801.07698, eq. 3).

    Args:
        embedding_size: D, length of an embedding.
        class_num: C, number of identities.
        margin: m, additive angular margin in radians.
        scale: s, factor on all cosines.
        easy_margin: apply the margin only where the target cosine is positive.
        straight_through: insightface's derivative of the margin (1) instead of the true one.

    Raises:
        ValueError: a size below 1, or a margin or scale out of range.
    """

    def __init__(
        self,
        embedding_size: int,
        class_num: int,
        margin: float = 0.5,
        scale: float = 64.0,
        easy_margin: bool = False,
        straight_through: bool = False,
    ) -> None:
        super().__init__()
        if embedding_size < 1 or class_num < 1:
            raise ValueError(f"ArcMargin needs sizes of at least 1, got {embedding_size=} and {class_num=}.")
        if not 0 <= margin < 3.1416 or scale <= 0:
            raise ValueError(f"ArcMargin needs 0 <= margin < pi (radians) and scale > 0, got {margin=}, {scale=}.")
        self.embedding_size = embedding_size
        self.class_num = class_num
        self.scale = scale
        self.margin = partial(arcface, margin=margin, easy_margin=easy_margin, straight_through=straight_through)
        self.weight = self.create_parameter(
            [embedding_size, class_num], default_initializer=nn.initializer.XavierNormal()
        )

    def forward(self, embedding: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """Return the logits.

        Args:
            embedding: (N, D), any length, not normalised.
            labels: (N,) class indices, int64.

        Returns:
            (N, C) float32: s cos(theta_j), and s margin(cos(theta_y)) in the target's column.
        """
        with paddle.amp.auto_cast(enable=False):  # cosines times 64 need float32
            unit = normalize(embedding.astype("float32"), axis=1)  # (N, D)
            centres = normalize(self.weight.astype("float32"), axis=0)  # (D, C)
            # Rounding may give 1 + 1e-7; beyond +-1 there is no angle.
            cosine = paddle.clip(paddle.matmul(unit, centres), -1.0, 1.0)  # (N, C)
            column = labels.reshape([-1, 1])
            target = paddle.take_along_axis(cosine, column, axis=1)  # (N, 1)
            return self.scale * paddle.put_along_axis(cosine, column, self.margin(target), axis=1)
