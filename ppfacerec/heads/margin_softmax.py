"""The sum over classes of a margin softmax, forward and backward, in chunks of classes.

With z_ij = s cos_ij for the negatives j != y_i, the loss of sample i depends on two numbers: the target cosine and
L_i = log sum_{j != y_i} exp(z_ij). Both are computed and differentiated without the full logit matrix: each chunk of
class centres is normalised, multiplied, summed and discarded; the backward pass recomputes it, unless all chunks
together are small. Memory is O(batch x chunk) for any number of classes, and a chunk that fits the cache is faster.

Shapes in comments: N samples of all processes that share the classes, n classes per chunk, K sub-centres per class,
D embedding size, M samples whose class is in this process.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import paddle
from paddle.autograd import PyLayer

from ppfacerec.heads.sharding import BatchGroup

_TINY_SQUARE = 1e-24  # norm below 1e-12: dividing by it would only amplify rounding errors
_EXCLUDED = -1e30  # removes a target from the sum over negatives; finite, because 0 * infinity is NaN
# exp() of |z| up to 80 is a normal float32, and so is a sum below exp(85).
_LARGEST_EXPONENT, _LARGEST_SUM = 80.0, 85.0

# Up to this many logits (8 MiB) are kept for the backward pass: few classes, or few sampled ones.
_MOST_KEPT = 1 << 21

# Cosines (n, N) -> their replacement in the sum, and its derivative (None: 1).
Transform = Callable[[paddle.Tensor], tuple[paddle.Tensor, paddle.Tensor | None]]


def normalize(x: paddle.Tensor) -> paddle.Tensor:
    """Divide each row by its L2 norm; a zero row stays zero and gets a finite gradient."""
    return x * inverse_norms(x)


def inverse_norms(rows: paddle.Tensor) -> paddle.Tensor:
    """Return 1 / L2 norm of each row (n, 1); 1 for a zero row."""
    # A product with ones is ten times as fast as Paddle's sum on the CPU.
    square_sum = paddle.matmul(rows * rows, paddle.ones([rows.shape[1], 1], rows.dtype))
    # Not rsqrt: on the CPU Paddle's is an approximation, off by 5e-6.
    return 1.0 / paddle.sqrt(paddle.where(square_sum < _TINY_SQUARE, paddle.ones_like(square_sum), square_sum))


@dataclass
class Classes:
    """Inputs of one batch's sum over the classes of this process, besides embeddings and weight."""

    positions: np.ndarray  # (N,) index of each sample's class among the weight's classes; -1: not in this process
    num_classes: int  # in the weight; any rows after them are padding
    class_num: int  # classes of all processes
    scale: float
    chunk_size: int  # classes per chunk
    group: BatchGroup
    num_sub_centers: int = 1  # K, rows per class; the largest of their cosines counts
    # Target cosines (N,) -> transform of the negatives, or None.
    transform: Callable[[paddle.Tensor], Transform | None] = lambda target: None
    largest_cosine: float = 1.0  # upper bound of a transformed cosine
    # Dtype of the product that gives the cosines, such as "bfloat16"; all else is float32. Probabilities over a million
    # classes are near 1e-6, too small for float16's precision, so the gradients' products do not use it.
    matmul_dtype: str | None = None

    @property
    def needs_no_maximum(self) -> bool:
        """Whether z is bounded (|cos| <= 1) so that exp(z) and its sums are normal numbers, as with s = 64."""
        largest = self.scale * self.largest_cosine + math.log(self.class_num)
        return self.scale <= _LARGEST_EXPONENT and largest <= _LARGEST_SUM


class MarginSoftmax(PyLayer):
    """Unit embeddings and class centres -> L and target cosines of this process's samples."""

    @staticmethod
    def forward(
        ctx: Any, unit: paddle.Tensor, weight: paddle.Tensor, classes: Classes
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Return L (B,) and target cosines (B,) of unit embeddings (B, D) and class centres (rows, D) of any norm."""
        step = _Pass(classes, classes.group.gather(unit), weight)
        target = step.target_cosines()
        log_sum = step.log_sum(target)
        ctx.step, ctx.is_frozen = step, (unit.stop_gradient, weight.stop_gradient)
        return classes.group.own(log_sum), classes.group.own(target)

    @staticmethod
    def backward(ctx: Any, grad_log_sum: paddle.Tensor, grad_target: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        group = ctx.step.classes.group
        grad_unit, grad_weight = ctx.step.backward(group.gather(grad_log_sum), group.gather(grad_target))
        gradients = group.own(group.sum(grad_unit)), grad_weight
        return tuple(None if frozen else g for frozen, g in zip(ctx.is_frozen, gradients))


@paddle.no_grad()
def target_cosines(unit: paddle.Tensor, weight: paddle.Tensor, classes: Classes) -> paddle.Tensor:
    """Return the cosines (N,) of all samples of the group to their own classes, without the sum over the others."""
    return _Pass(classes, classes.group.gather(unit), weight).target_cosines()


class _Chunk(NamedTuple):
    number: int
    rows: slice  # of the weight
    samples: paddle.Tensor  # whose target is in the chunk
    places: paddle.Tensor  # index of that target in the chunk


class _Pass:
    """Forward and backward of one batch."""

    def __init__(self, classes: Classes, unit: paddle.Tensor, weight: paddle.Tensor) -> None:
        self.classes, self.unit, self.weight = classes, unit, weight
        here = np.flatnonzero(classes.positions >= 0)
        here = here[np.argsort(classes.positions[here], kind="stable")]  # targets ordered by chunk
        positions = classes.positions[here]
        self._samples, self._positions = paddle.to_tensor(here), paddle.to_tensor(positions)
        self._places = paddle.to_tensor(positions % classes.chunk_size)
        starts = np.arange(0, classes.num_classes + classes.chunk_size, classes.chunk_size)
        self._first_targets = np.searchsorted(positions, starts)
        self._scaled = (unit * classes.scale).t()  # (D, N)
        num_logits = classes.num_classes * classes.num_sub_centers * len(classes.positions)
        self._keeps_logits = num_logits <= _MOST_KEPT
        self._kept: list[paddle.Tensor] = []  # (n K, N) per chunk
        self._inverse_norms: list[paddle.Tensor] = []  # (n K, 1) per chunk
        self._ones = paddle.ones([1, classes.chunk_size])
        self._log_sum = paddle.zeros([])  # (1, N)
        self._transform: Transform | None = None

    def _chunks(self) -> Iterator[_Chunk]:
        size, K = self.classes.chunk_size, self.classes.num_sub_centers
        for number, start in enumerate(range(0, self.classes.num_classes, size)):
            stop = min(start + size, self.classes.num_classes)
            first, last = self._first_targets[number], self._first_targets[number + 1]
            rows = slice(start * K, stop * K)
            yield _Chunk(number, rows, self._samples[first:last], self._places[first:last])

    def _repeat(self, row: paddle.Tensor, like: paddle.Tensor) -> paddle.Tensor:
        """(1, N) -> (n, N) by a product with ones: on the CPU Paddle's own repeat and sum are ten times as slow."""
        return paddle.matmul(self._ones[:, : like.shape[0]], row, transpose_x=True)

    def _centre_logits(self, chunk: _Chunk) -> paddle.Tensor:
        """s cos of every centre of the chunk (n K, N); the products are normalised instead of the centres."""
        rows, scaled, dtype = self.weight[chunk.rows], self._scaled, self.classes.matmul_dtype
        if dtype is None:
            z = paddle.matmul(rows, scaled)
        else:
            z = paddle.matmul(rows.astype(dtype), scaled.astype(dtype)).astype("float32")
        return z.multiply_(self._inverse_norms[chunk.number])

    def _negatives(self, chunk: _Chunk, z: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor | None]:
        """Return the terms of the sum for s cos of the classes (n, N), targets excluded, and the derivative."""
        slope = None
        if self._transform is not None:
            cosine, slope = self._transform(z / self.classes.scale)
            z = cosine * self.classes.scale
        if chunk.samples.shape[0]:
            z.index_put_((chunk.places, chunk.samples), paddle.full([chunk.samples.shape[0]], _EXCLUDED))
        return z, slope

    def log_sum(self, target: paddle.Tensor) -> paddle.Tensor:
        """L (N,) of all samples."""
        self._transform = self.classes.transform(target)
        total = paddle.zeros([1, self.unit.shape[0]], "float64")
        has_bound = self.classes.needs_no_maximum
        top = paddle.full([1, self.unit.shape[0]], 0.0 if has_bound else _EXCLUDED)
        for chunk in self._chunks():
            self._inverse_norms.append(inverse_norms(self.weight[chunk.rows]))
            z = self._centre_logits(chunk)
            if self._keeps_logits:
                self._kept.append(z)
            best = _largest(z, self.classes.num_sub_centers)
            z, _ = self._negatives(chunk, best)
            if not has_bound:
                higher = paddle.maximum(top, paddle.max(z, axis=0, keepdim=True))
                total = total * paddle.exp(top - higher).astype("float64")
                top, z = higher, z - self._repeat(higher, z)
            total = total + paddle.matmul(self._ones[:, : z.shape[0]], paddle.exp(z)).astype("float64")
        if not has_bound:
            higher = self.classes.group.max(top)
            total, top = total * paddle.exp(top - higher).astype("float64"), higher
        log_total = paddle.log(self.classes.group.sum(total)).astype("float32")
        # A single class has no negatives: log 0, kept finite.
        self._log_sum = paddle.clip(log_total + top, min=_EXCLUDED / 10)
        return self._log_sum.flatten()

    def target_cosines(self) -> paddle.Tensor:
        """Cosines of all samples to their own classes (N,)."""
        target = paddle.zeros([self.unit.shape[0]])
        if self._samples.shape[0]:
            _, cosine, _ = self._own_centres()
            target = paddle.scatter(target, self._samples, cosine.flatten())
        return self.classes.group.sum(target)

    def _own_centres(self) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        """Unit embeddings (M, D), cosines (M, 1) and weight rows (M,) of the samples whose class is in this process."""
        K, own = self.classes.num_sub_centers, paddle.gather(self.unit, self._samples)
        rows = (self._positions * K).unsqueeze(1) + paddle.arange(K, dtype="int64")  # (M, K)
        centres = normalize(paddle.gather(self.weight, rows.flatten())).reshape([-1, K, own.shape[1]])
        cosines = paddle.sum(own.unsqueeze(1) * centres, axis=2)  # (M, K)
        winner = paddle.argmax(cosines, axis=1, keepdim=True)
        best = paddle.take_along_axis(cosines, winner, axis=1)
        return own, best, paddle.take_along_axis(rows, winner, axis=1).flatten()

    def backward(self, grad_log_sum: paddle.Tensor, grad_target: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Return the gradients of the unit embeddings (N, D), this process's summand only, and of the weight."""
        K = self.classes.num_sub_centers
        column = grad_log_sum.unsqueeze(1)  # (N, 1)
        weight_column = column * self.classes.group.weight_share
        weighted = self.unit * (weight_column * self.classes.scale)  # (N, D)
        grad_unit = paddle.zeros_like(self.unit)
        grad_weight = paddle.empty(self.weight.shape, self.weight.dtype)
        grad_weight[self.classes.num_classes * K :].zero_()
        for chunk in self._chunks():
            z = self._kept[chunk.number] if self._keeps_logits else self._centre_logits(chunk)
            best = _largest(z, K)
            terms, slope = self._negatives(chunk, best)
            p = paddle.exp(terms - self._repeat(self._log_sum, terms))  # (n, N): softmax over the negatives
            p = _to_winners(p if slope is None else p * slope, z, K)  # (n K, N)
            inverse, rows = self._inverse_norms[chunk.number], self.weight[chunk.rows]
            along = paddle.matmul(p * z, weight_column).multiply_(inverse * inverse)  # (n K, 1)
            p.multiply_(inverse)
            across = paddle.matmul(p, weighted).subtract_(rows * along)  # (n K, D)
            grad_weight[chunk.rows].copy_(across, False)
            grad_unit.add_(paddle.matmul(p, rows, transpose_x=True))
        grad_unit.multiply_(column * self.classes.scale)
        if self._samples.shape[0]:
            self._add_targets(grad_target, grad_unit, grad_weight)
        return grad_unit, grad_weight

    def _add_targets(self, grad_target: paddle.Tensor, grad_unit: paddle.Tensor, grad_weight: paddle.Tensor) -> None:
        own, cosine, rows = self._own_centres()
        raw = paddle.gather(self.weight, rows)
        inverse = inverse_norms(raw)
        gradient = paddle.gather(grad_target, self._samples).unsqueeze(1)  # (M, 1)
        grad_unit.index_add_(self._samples, 0, gradient * raw * inverse)
        across = (own - raw * inverse * cosine) * (inverse * gradient * self.classes.group.weight_share)
        grad_weight.index_add_(rows, 0, across)


def _largest(z: paddle.Tensor, num_sub_centers: int) -> paddle.Tensor:
    """(n K, N) -> (n, N): the cosine of a class is that of its nearest centre."""
    if num_sub_centers == 1:
        return z
    parts = z.reshape([-1, num_sub_centers, z.shape[1]]).unbind(axis=1)
    best = parts[0]
    for part in parts[1:]:
        best = paddle.maximum(best, part)
    return best


def _to_winners(gradient: paddle.Tensor, z: paddle.Tensor, num_sub_centers: int) -> paddle.Tensor:
    """Route the gradient (n, N) to the winning centres (n K, N); ties go to the first."""
    if num_sub_centers == 1:
        return gradient
    parts = z.reshape([-1, num_sub_centers, z.shape[1]]).unbind(axis=1)
    best = [parts[0]]  # running maximum
    for part in parts[1:-1]:
        best.append(paddle.maximum(best[-1], part))
    shares = []
    for part, before in zip(parts[:0:-1], reversed(best)):
        wins = gradient * (part > before).astype(gradient.dtype)
        gradient = gradient - wins
        shares.append(wins)
    return paddle.stack([gradient, *reversed(shares)], axis=1).reshape(z.shape)
