"""What a head gives a loss: the scores of a batch, not yet computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import paddle

from ppfacerec.heads.margin_softmax import MarginSoftmax, normalize

if TYPE_CHECKING:
    from ppfacerec.heads.margin_head import MarginHead


def softplus(x: paddle.Tensor) -> paddle.Tensor:
    """log(1 + exp(x)), which is the loss for x = L - z_y. Value and derivative keep their digits where they are tiny.

    Paddle's own softplus and log_sigmoid round 1 + exp(x) first: a target's probability above 1 - 1e-7 counts as 1.
    """
    is_positive = (x > 0).astype(x.dtype)
    return is_positive * x + paddle.log1p(paddle.exp(x * (1.0 - 2.0 * is_positive)))


class MarginScores:
    """The scaled cosines of B embeddings to all classes, with the margin on the targets'.

    ``cross_entropy`` never makes the (B, C) matrix of them; ``dense`` does, for other losses and for tests.

    Args:
        head: the head that they are the scores of.
        embedding: (B, D) float32, of any length.
        labels: (B,) class indices, int64.
    """

    def __init__(self, head: MarginHead, embedding: paddle.Tensor, labels: paddle.Tensor) -> None:
        self._head, self._labels = head, labels
        self._unit = normalize(embedding)
        square_sum = paddle.sum(embedding * embedding, axis=1)
        self._norm = paddle.sqrt(paddle.clip(square_sum, min=1e-24))  # (B,)
        head.observe_norms(self._norm)

    @property
    def penalties(self) -> dict[str, paddle.Tensor]:
        """Terms that the margin adds to the loss, by the names that the log shows."""
        return self._head.penalties(self._norm)

    def cross_entropy(self, epsilon: float = 0.0) -> paddle.Tensor:
        """-log softmax of the target (B,), float32; with label smoothing, + epsilon (z_y - mean of all z).

        Raises:
            ValueError: smoothing where not all classes are here, or the negatives' logits are not the cosines.
        """
        with paddle.amp.auto_cast(enable=False):
            weight, classes = self._head.classes(self._labels)
            log_sum, cosine = MarginSoftmax.apply(self._unit, weight, classes)
            target = self._target_logits(cosine)
            loss = softplus(log_sum - target)
            return loss + epsilon * (target - self._mean_logit(cosine, target)) if epsilon else loss

    def _mean_logit(self, cosine: paddle.Tensor, target: paddle.Tensor) -> paddle.Tensor:
        """Mean of all logits (B,): the sum of the cosines is the product with the sum of the unit centres (D,)."""
        head = self._head
        if (
            head.sample_rate < 1
            or head.shard.world_size > 1
            or head.num_sub_centers > 1
            or head.negatives(cosine.detach())
        ):
            raise ValueError(
                "CELoss.epsilon: label smoothing needs every class's plain logit: it does not go with sample_rate, "
                "class_parallel, num_sub_centers, or a head that changes the negatives."
            )
        cosines = paddle.matmul(self._unit, paddle.sum(normalize(head.weight), axis=0))
        return (head.scale * (cosines - cosine) + target) / head.class_num

    def _target_logits(self, cosine: paddle.Tensor) -> paddle.Tensor:
        # Rounding may give 1 + 1e-7; beyond +-1 there is no angle.
        return self._head.scale * self._head.margin(paddle.clip(cosine, -1.0, 1.0), self._norm)

    def dense(self) -> paddle.Tensor:
        """All logits (B, C), float32: s cos(theta_j), and s margin(cos(theta_y)) in the target's column.

        Raises:
            ValueError: the classes are spread over several processes.
        """
        head = self._head
        if head.shard.world_size > 1:
            raise ValueError(
                "This loss needs all logits, which no process has with class_parallel; use CELoss, or set "
                "Arch.Head.class_parallel: False."
            )
        with paddle.amp.auto_cast(enable=False):
            cosine = paddle.matmul(self._unit, normalize(head.weight), transpose_y=True)
            cosine = paddle.max(cosine.reshape([-1, head.class_num, head.num_sub_centers]), axis=2)  # (B, C)
            column = self._labels.reshape([-1, 1])
            target = paddle.take_along_axis(cosine, column, axis=1).flatten()
            transform = head.negatives(target.detach())
            if transform is not None:
                cosine = transform(cosine.t())[0].t()
            logits = head.scale * paddle.clip(cosine, -head.largest_cosine, head.largest_cosine)
            return paddle.put_along_axis(logits, column, self._target_logits(target).unsqueeze(1), axis=1)
