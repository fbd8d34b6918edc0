"""Lazily computed scores of a batch, which a head passes to a loss."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import paddle

from ppfacerec.heads.margin_softmax import Classes, MarginSoftmax, normalize


def softplus(x: paddle.Tensor) -> paddle.Tensor:
    """log(1 + exp(x)), the loss for x = L - z_y, with value and derivative accurate where they are tiny.

    Paddle's own softplus and log_sigmoid round 1 + exp(x) first: a target's probability above 1 - 1e-7 becomes 1.
    """
    is_positive = (x > 0).astype(x.dtype)
    return is_positive * x + paddle.log1p(paddle.exp(x * (1.0 - 2.0 * is_positive)))


@dataclass(frozen=True)
class MarginScores:
    """Scaled cosines of B embeddings to all classes, with the margin on the target cosines.

    ``cross_entropy`` never builds the (B, C) logits; ``dense`` does, for other losses and for tests. Neither has side
    effects: the head's forward has already sampled the classes and updated the running statistics.
    """

    unit: paddle.Tensor  # (B, D) normalised embeddings
    labels: paddle.Tensor  # (B,) class indices, int64
    weight: paddle.Tensor  # (rows, D) class centres that this batch is compared with
    classes: Classes  # which classes those are, and the other inputs of the sum over them
    margin: Callable[[paddle.Tensor], paddle.Tensor]  # target cosines (B,) -> the same with the margin
    # Terms that the margin adds to the loss, by their names in the log.
    penalties: Mapping[str, paddle.Tensor] = field(default_factory=dict)

    def cross_entropy(self, epsilon: float = 0.0) -> paddle.Tensor:
        """Return -log softmax of the target (B,), float32; with label smoothing, + epsilon (z_y - mean of all z).

        Raises:
            ValueError: smoothing with only part of the classes, with sub-centres, or with transformed negatives.
        """
        with paddle.amp.auto_cast(enable=False):
            log_sum, cosine = MarginSoftmax.apply(self.unit, self.weight, self.classes)
            target = self._target_logits(cosine)
            loss = softplus(log_sum - target)
            return loss + epsilon * (target - self._mean_logit(cosine, target)) if epsilon else loss

    def _mean_logit(self, cosine: paddle.Tensor, target: paddle.Tensor) -> paddle.Tensor:
        """Mean of all logits (B,): the sum of the cosines is the product with the sum of the unit centres (D,)."""
        classes = self.classes
        is_part = classes.num_classes != classes.class_num
        if is_part or classes.num_sub_centers > 1 or classes.transform(cosine.detach()) is not None:
            raise ValueError(
                "CELoss.epsilon: label smoothing needs every class's plain logit: it cannot be combined with "
                "sample_rate, class_parallel, num_sub_centers, or a head that changes the negatives."
            )
        cosines = paddle.matmul(self.unit, paddle.sum(normalize(self.weight), axis=0))
        return (classes.scale * (cosines - cosine) + target) / classes.class_num

    def _target_logits(self, cosine: paddle.Tensor) -> paddle.Tensor:
        # Rounding may give 1 + 1e-7; beyond +-1 there is no angle.
        return self.classes.scale * self.margin(paddle.clip(cosine, -1.0, 1.0))

    def dense(self) -> paddle.Tensor:
        """Return all logits (B, C), float32: s cos(theta_j), and s margin(cos(theta_y)) in the target's column.

        Raises:
            ValueError: this process or this step has only part of the classes.
        """
        classes = self.classes
        if classes.num_classes != classes.class_num:
            raise ValueError(
                f"This loss needs the logits of all {classes.class_num} classes, but this step computes "
                f"{classes.num_classes} of them here. Use CELoss, or set Arch.Head.class_parallel: False and "
                "Arch.Head.sample_rate: 1.0."
            )
        with paddle.amp.auto_cast(enable=False):
            cosine = paddle.matmul(self.unit, normalize(self.weight), transpose_y=True)
            cosine = paddle.max(cosine.reshape([-1, classes.class_num, classes.num_sub_centers]), axis=2)  # (B, C)
            column = self.labels.reshape([-1, 1])
            target = paddle.take_along_axis(cosine, column, axis=1).flatten()
            transform = classes.transform(target.detach())
            if transform is not None:
                cosine = transform(cosine.t())[0].t()
            logits = classes.scale * paddle.clip(cosine, -classes.largest_cosine, classes.largest_cosine)
            return paddle.put_along_axis(logits, column, self._target_logits(target).unsqueeze(1), axis=1)
