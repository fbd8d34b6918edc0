"""Gradient clipping by the global norm, also with classes sharded over processes."""

from collections.abc import Sequence

import paddle
from paddle.nn.clip import ClipGradBase

from ppfacerec.core import distributed

ParamsGrads = Sequence[tuple[paddle.Tensor, paddle.Tensor]]


class ClipByGlobalNorm(ClipGradBase):
    """Scale all gradients by clip_norm / max(norm, clip_norm), where norm is that of all gradients together.

    Paddle's ClipGradByGlobalNorm sees only this process's gradients; with sharded classes each process would scale the
    backbone's gradients by a different factor.
    """

    def __init__(self, clip_norm: float) -> None:
        super().__init__()
        self.clip_norm = clip_norm

    @paddle.no_grad()
    def __call__(self, params_grads: ParamsGrads) -> list[tuple[paddle.Tensor, paddle.Tensor]]:
        shared = sum((_square_sum(g) for p, g in params_grads if not p.is_distributed), paddle.zeros([1]))
        parts = [_square_sum(g) for p, g in params_grads if p.is_distributed]
        if parts:
            shared = shared + distributed.sum_tensor(sum(parts, paddle.zeros([1])))
        factor = self.clip_norm / paddle.clip(paddle.sqrt(shared), min=self.clip_norm)
        return [(p, g * factor.astype(g.dtype)) for p, g in params_grads]


def _square_sum(gradient: paddle.Tensor) -> paddle.Tensor:
    flat = gradient.astype("float32").flatten()
    return paddle.sum(flat * flat).reshape([1])
