"""Cross-entropy, and the weighted sum of losses."""

from collections.abc import Mapping
from typing import Literal

import paddle
from paddle import nn

from ppfacerec.core.ranges import require_ranges
from ppfacerec.heads import MarginScores


class CELoss(nn.Layer):
    """Cross-entropy logsumexp(z) - z_y in float32, averaged over the batch.

    Not Paddle's cross_entropy: its CPU kernel clips logits at 64 below the row's maximum, which with scale 64 gives a
    wrong loss (53.08 instead of 53.41).

    Args:
        epsilon: label smoothing (arXiv:1512.00567, section 7): every class has probability epsilon / C, the target
            1 - epsilon in addition. None or 0: no smoothing.
        reduction: PaddleClas's key; always the mean over the batch.
    """

    takes_scores = True  # accepts a margin head's scores, without building the (N, C) logits

    def __init__(self, epsilon: float | None = None, reduction: Literal["mean"] = "mean") -> None:
        super().__init__()
        require_ranges("CELoss", epsilon=epsilon)
        self.epsilon = epsilon or 0.0

    def forward(self, logits: MarginScores | paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """Return the mean loss (scalar).

        Args:
            logits: a margin head's scores, or logits (N, C).
            labels: (N,) class indices, int64.
        """
        if isinstance(logits, MarginScores):
            return paddle.mean(logits.cross_entropy(self.epsilon))
        with paddle.amp.auto_cast(enable=False):
            logits = logits.astype("float32")
            highest = paddle.max(logits, axis=1, keepdim=True).detach()  # (N, 1)
            log_sum = paddle.log(paddle.sum(paddle.exp(logits - highest), axis=1, keepdim=True)) + highest  # (N, 1)
            target = paddle.take_along_axis(logits, labels.reshape([-1, 1]), axis=1)  # (N, 1)
            loss = log_sum - target
            if self.epsilon:
                loss = loss + self.epsilon * (target - paddle.mean(logits, axis=1, keepdim=True))
            return paddle.mean(loss)


class WeightedSum(nn.Layer):
    """Weighted sum of named losses, plus the head's own terms (MagFace's regularizer).

    A loss with the attribute ``takes_scores`` receives a margin head's scores, any other one the logits (N, C).

    Args:
        losses: name in the log -> (loss, weight).
    """

    def __init__(self, losses: Mapping[str, tuple[nn.Layer, float]]) -> None:
        super().__init__()
        self.names = list(losses)
        self.parts = nn.LayerList([loss for loss, _ in losses.values()])
        self.weights = [weight for _, weight in losses.values()]

    def forward(self, scores: MarginScores | paddle.Tensor, labels: paddle.Tensor) -> dict[str, paddle.Tensor]:
        """Return the unweighted losses and the head's own terms by name, and the weighted sum as ``"loss"``."""
        is_lazy = isinstance(scores, MarginScores)
        values = {}
        for name, part in zip(self.names, self.parts):
            takes_all = is_lazy and not getattr(part, "takes_scores", False)
            values[name] = part(scores.dense() if takes_all else scores, labels)
        total = sum((w * v for w, v in zip(self.weights, values.values())), paddle.zeros([]))
        if is_lazy:
            for name, value in scores.penalties.items():
                values[name], total = value, total + value
        return {**values, "loss": total}
