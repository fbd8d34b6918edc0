"""Heads whose margin is the same function for every sample."""

import paddle

from ppfacerec.core.ranges import require_ranges
from ppfacerec.heads import margins
from ppfacerec.heads.margin_head import MarginHead
from ppfacerec.heads.options import DEFAULT_OPTIONS, HeadOptions, with_head_options


@with_head_options
class ArcMargin(MarginHead):
    """ArcFace head: scaled cosines to the class centres, cos(theta + m) for the target (arXiv:1801.07698, eq. 3).

    Args:
        embedding_size: D, length of an embedding.
        class_num: C, number of identities.
        margin: m, additive angular margin in radians.
        scale: s, factor on all cosines.
        easy_margin: apply the margin only where the target cosine is positive.
        straight_through: use 1 as the margin's derivative instead of the true one, as insightface does.

    Raises:
        ValueError: a size below 1, or a margin or scale out of range.
    """

    def __init__(
        self,
        embedding_size: int,
        class_num: int,
        margin: float = 0.5,
        scale: float = 64.0,
        *,
        easy_margin: bool = False,
        straight_through: bool = False,
        options: HeadOptions = DEFAULT_OPTIONS,
    ) -> None:
        require_ranges("ArcMargin", margin=margin)
        super().__init__(embedding_size, class_num, scale, options)
        self._arguments = (margin, easy_margin, straight_through)

    def margin(self, cosine: paddle.Tensor, norm: paddle.Tensor) -> paddle.Tensor:
        return margins.arcface(cosine, *self._arguments)


@with_head_options
class CosMargin(MarginHead):
    """CosFace head: cos(theta) - m for the target (arXiv:1801.09414, eq. 4).

    Args:
        margin: m, subtracted from the cosine.
    """

    def __init__(
        self,
        embedding_size: int,
        class_num: int,
        margin: float = 0.35,
        scale: float = 64.0,
        options: HeadOptions = DEFAULT_OPTIONS,
    ) -> None:
        require_ranges("CosMargin", margin=margin)
        super().__init__(embedding_size, class_num, scale, options)
        self._margin = margin

    def margin(self, cosine: paddle.Tensor, norm: paddle.Tensor) -> paddle.Tensor:
        return margins.cosface(cosine, self._margin)


@with_head_options
class CombinedMargin(MarginHead):
    """cos(m1 theta + m2) - m3 for the target (arXiv:1801.07698, eq. 4).

    Args:
        m1: factor on the angle, at least 1.
        m2: added to the angle, in radians.
        m3: subtracted from the cosine.
        straight_through: use 1 as the margin's derivative instead of the true one.
    """

    def __init__(
        self,
        embedding_size: int,
        class_num: int,
        *,
        m1: float = 1.0,
        m2: float = 0.3,
        m3: float = 0.2,
        scale: float = 64.0,
        straight_through: bool = False,
        options: HeadOptions = DEFAULT_OPTIONS,
    ) -> None:
        require_ranges("CombinedMargin", m1=m1, m2=m2, m3=m3)
        super().__init__(embedding_size, class_num, scale, options)
        self._arguments, self._straight_through = (m1, m2, m3), straight_through

    def margin(self, cosine: paddle.Tensor, norm: paddle.Tensor) -> paddle.Tensor:
        if self._straight_through:
            return margins.with_unit_derivative(lambda c: margins.combined(c, *self._arguments), cosine)
        return margins.combined(cosine, *self._arguments)


@with_head_options
class SphereMargin(MarginHead):
    """SphereFace head: (-1)^k cos(m theta) - 2k for the target (arXiv:1704.08063, eq. 7), with normalised embeddings.

    Args:
        margin: m, factor on the angle; the paper's value of 4 is for unnormalised embeddings.
    """

    def __init__(
        self,
        embedding_size: int,
        class_num: int,
        margin: float = 1.35,
        scale: float = 64.0,
        options: HeadOptions = DEFAULT_OPTIONS,
    ) -> None:
        require_ranges("SphereMargin", margin=margin)
        super().__init__(embedding_size, class_num, scale, options)
        self._margin = margin

    def margin(self, cosine: paddle.Tensor, norm: paddle.Tensor) -> paddle.Tensor:
        return margins.sphereface(cosine, self._margin)
