"""Heads whose margin or negatives depend on the sample or on running statistics."""

import math
from collections.abc import Callable

import paddle

from ppfacerec.core import distributed
from ppfacerec.core.ranges import require_ranges
from ppfacerec.heads import margins
from ppfacerec.heads.margin_head import MarginHead
from ppfacerec.heads.margin_softmax import Transform
from ppfacerec.heads.options import DEFAULT_OPTIONS, HeadOptions, with_head_options


@with_head_options
class AdaMargin(MarginHead):
    """AdaFace head: a margin by image quality, estimated from the embedding norm (arXiv:2204.00964, eq. 8).

    Args:
        margin: m.
        scale: s.
        h: factor on the norm's z-score, which is then clipped to [-1, 1].
        t_alpha: weight of a batch (of all processes) in the running mean and standard deviation of the norms.
    """

    def __init__(
        self,
        embedding_size: int,
        class_num: int,
        margin: float = 0.4,
        scale: float = 64.0,
        *,
        h: float = 0.333,
        t_alpha: float = 0.01,
        options: HeadOptions = DEFAULT_OPTIONS,
    ) -> None:
        require_ranges("AdaMargin", margin=margin, h=h, t_alpha=t_alpha)
        super().__init__(embedding_size, class_num, scale, options)
        self._margin, self._h, self._t_alpha = margin, h, t_alpha
        self.register_buffer("batch_mean", paddle.full([1], 20.0))  # the paper's initial values
        self.register_buffer("batch_std", paddle.full([1], 100.0))

    def observe(self, norm: paddle.Tensor, target: Callable[[], paddle.Tensor]) -> None:
        mean, deviation = distributed.moments(_safe(norm))
        for buffer, value in ((self.batch_mean, mean), (self.batch_std, deviation)):
            buffer.set_value(self._t_alpha * value + (1 - self._t_alpha) * buffer)

    def margin(self, cosine: paddle.Tensor, norm: paddle.Tensor) -> paddle.Tensor:
        quality = (_safe(norm) - self.batch_mean) / (self.batch_std + 1e-3) * self._h
        return margins.adaface(cosine, paddle.clip(quality, -1.0, 1.0), self._margin)


def _safe(norm: paddle.Tensor) -> paddle.Tensor:
    return paddle.clip(norm.detach(), 1e-3, 100.0)


@with_head_options
class MagMargin(MarginHead):
    """MagFace head: an angular margin that grows with the norm, and a regularizer that enlarges it (arXiv:2103.06627).

    Args:
        norms: (l_a, u_a), range to which the norm is clipped.
        margins: (l_m, u_m), margins in radians at those norms.
        scale: s.
        lambda_g: weight of the regularizer; the weighted term is logged as MagFace.
    """

    def __init__(
        self,
        embedding_size: int,
        class_num: int,
        *,
        norms: tuple[float, float] = (10.0, 110.0),
        margins: tuple[float, float] = (0.45, 0.8),
        scale: float = 64.0,
        lambda_g: float = 35.0,
        options: HeadOptions = DEFAULT_OPTIONS,
    ) -> None:
        require_ranges(lambda_g=lambda_g)
        if not 0 < norms[0] < norms[1] or not 0 <= margins[0] <= margins[1] < 3.1416:
            raise ValueError(
                f"MagMargin needs 0 < l_a < u_a and 0 <= l_m <= u_m < pi, got norms={tuple(norms)}, "
                f"margins={tuple(margins)}."
            )
        super().__init__(embedding_size, class_num, scale, options)
        self._norms, self._margins, self._lambda = norms, margins, lambda_g

    def margin(self, cosine: paddle.Tensor, norm: paddle.Tensor) -> paddle.Tensor:
        bounded = paddle.clip(norm, *self._norms)
        return margins.arcface(cosine, margins.magface_margin(bounded, self._norms, self._margins))

    def penalties(self, norm: paddle.Tensor) -> dict[str, paddle.Tensor]:
        bounded = paddle.clip(norm, *self._norms)
        return {"MagFace": self._lambda * paddle.mean(margins.magface_regularizer(bounded, self._norms[1]))}


@with_head_options
class CurricularMargin(MarginHead):
    """CurricularFace head: ArcFace whose hard negatives gain weight during training (arXiv:2004.00288, eq. 5).

    Args:
        margin: m, additive angular margin in radians.
        scale: s.
        t_alpha: weight of a batch's mean target cosine (over all processes) in the running average t.
    """

    largest_cosine = 2.0  # cos (t + cos) with t <= 1

    def __init__(
        self,
        embedding_size: int,
        class_num: int,
        margin: float = 0.5,
        scale: float = 64.0,
        *,
        t_alpha: float = 0.01,
        options: HeadOptions = DEFAULT_OPTIONS,
    ) -> None:
        require_ranges("CurricularMargin", margin=margin, t_alpha=t_alpha)
        super().__init__(embedding_size, class_num, scale, options)
        self._margin, self._t_alpha = margin, t_alpha
        self.register_buffer("t", paddle.zeros([1]))

    def margin(self, cosine: paddle.Tensor, norm: paddle.Tensor) -> paddle.Tensor:
        return margins.arcface(cosine, self._margin)

    def observe(self, norm: paddle.Tensor, target: Callable[[], paddle.Tensor]) -> None:
        mean, _ = distributed.moments(paddle.clip(target(), -1.0, 1.0))
        self.t.set_value(self._t_alpha * mean + (1 - self._t_alpha) * self.t)

    def negatives(self, target: paddle.Tensor) -> Transform | None:
        target = paddle.clip(target, -1.0, 1.0)
        hardest = target * math.cos(self._margin) - margins.sine(target) * math.sin(self._margin)
        t, row, filtered = self.t.clone(), hardest.unsqueeze(0), super().negatives(target)

        def transform(cosine: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
            value, slope = (cosine, None) if filtered is None else filtered(cosine)
            value, own = margins.curricular_negatives(value, paddle.matmul(paddle.ones([len(cosine), 1]), row), t)
            return value, own if slope is None else own * slope

        return transform
