"""Clipping by the norm of all gradients, also where a process has only its own classes'."""

from collections.abc import Sequence

import paddle
from paddle.nn.clip import ClipGradBase

from ppfacerec.core import distributed

ParamsGrads = Sequence[tuple[paddle.Tensor, paddle.Tensor]]


class ClipByGlobalNorm(ClipGradBase):
    """Scale all gradients by clip_norm / max(norm, clip_norm), norm being that of all of them together.

    Paddle's ClipGradByGlobalNorm sees this process's gradients only; where the classes are spread over the processes,
    each would scale the backbone's by another number.
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
