"""Communication between the ranks of a training, by paddle.distributed's collectives."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import paddle
import paddle.distributed as dist

from ppfacerec.core.distributed.ranks import rank, world_size

_BUCKET = 32 << 18  # numbers per message, 32 MiB; few large messages cost less than many small ones


@paddle.no_grad()
def broadcast_tensors(tensors: Iterable[paddle.Tensor]) -> None:
    """Broadcast the tensors of rank 0, in buckets of one dtype; a large head is sent in pieces."""
    for bucket in _buckets(tensors):
        flat = paddle.concat([t.reshape([-1]) for t in bucket])
        pieces = [flat[first : first + _BUCKET] for first in range(0, flat.size, _BUCKET)]
        for piece in pieces:
            dist.broadcast(piece, src=0)
        _split_into(paddle.concat(pieces), bucket)


@paddle.no_grad()
def average_tensors(tensors: Iterable[paddle.Tensor]) -> None:
    """Replace each tensor by its mean over the ranks, in place, in buckets of one dtype."""
    for bucket in _buckets(tensors):
        flat = paddle.concat([t.reshape([-1]) for t in bucket])
        dist.all_reduce(flat)  # SUM: gloo has no AVG
        _split_into(flat / world_size(), bucket)


def _buckets(tensors: Iterable[paddle.Tensor]) -> Iterator[list[paddle.Tensor]]:
    """Group neighbours of one dtype; yield nothing if there is a single rank."""
    bucket: list[paddle.Tensor] = []
    size = 0
    for tensor in tensors if world_size() > 1 else ():
        if bucket and (tensor.dtype != bucket[0].dtype or size > _BUCKET):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.size
    if bucket:
        yield bucket


def _split_into(flat: paddle.Tensor, tensors: Sequence[paddle.Tensor]) -> None:
    for tensor, part in zip(tensors, paddle.split(flat, [t.size for t in tensors])):
        paddle.assign(part.reshape(tensor.shape), tensor)


def gather_rows(rows: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """``gather_tensors`` for an array (counts[rank], D)."""
    if world_size() == 1:
        return rows
    gathered: np.ndarray = gather_tensors(paddle.to_tensor(rows), counts).numpy()
    return gathered


def collect_rows(rows: paddle.Tensor, counts: Sequence[int], block: int = 1 << 16) -> np.ndarray:
    """Collect all ranks' rows (counts[rank], D) in rank order, float32, on rank 0; other ranks get an empty array.

    A rank other than 0 never holds more than `block` rows of another rank.
    """
    size = sum(counts) if rank() == 0 else 0
    whole = np.empty((size, rows.shape[1]), np.float32)
    for source, count in enumerate(counts):
        for first in range(0, count, block):
            length = min(block, count - first)
            part = rows[first : first + length].clone() if source == rank() else paddle.empty(
                [length, rows.shape[1]], rows.dtype
            )  # fmt: skip
            dist.broadcast(part, src=source)
            if rank() == 0:
                start = sum(counts[:source]) + first
                whole[start : start + length] = part.numpy()
    return whole


def gather_tensors(tensor: paddle.Tensor, counts: Sequence[int]) -> paddle.Tensor:
    """Concatenate the rows (counts[rank], ...) of all ranks in rank order, on every rank; no gradient flows back."""
    if world_size() == 1:
        return tensor
    missing = max(counts) - tensor.shape[0]
    if missing:  # gloo gathers equal sizes only
        tensor = paddle.concat([tensor, paddle.zeros([missing, *tensor.shape[1:]], tensor.dtype)])
    gathered: list[paddle.Tensor] = []
    dist.all_gather(gathered, tensor)
    return paddle.concat([part[:count] for part, count in zip(gathered, counts)])


def gather_integer(value: int) -> list[int]:
    """The integers of all ranks, on every rank."""
    if world_size() == 1:
        return [value]
    gathered: list[paddle.Tensor] = []
    dist.all_gather(gathered, paddle.to_tensor([value], dtype="int64"))
    return [int(part.item()) for part in gathered]


def sum_tensor(tensor: paddle.Tensor) -> paddle.Tensor:
    """Sum over the ranks, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def max_tensor(tensor: paddle.Tensor) -> paddle.Tensor:
    """Maximum over the ranks, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor


@paddle.no_grad()
def moments(values: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Mean and unbiased standard deviation of the values (N,) of all ranks; N may differ between ranks.

    Two passes, as E[x^2] - E[x]^2 loses the variance of numbers far from 0. The deviation of a single value is 0.
    """
    values = values.astype("float64").flatten()
    total = sum_tensor(paddle.stack([paddle.sum(values), paddle.full([], values.shape[0], "float64")]))
    mean = total[0] / total[1]
    squares = sum_tensor(paddle.sum((values - mean) ** 2))
    return mean.astype("float32"), paddle.sqrt(squares / paddle.clip(total[1] - 1, min=1)).astype("float32")


def any_rank(flag: bool) -> bool:
    """True on every rank when it is true on one."""
    return any_ranks([flag])[0]


def any_ranks(flags: Sequence[bool]) -> list[bool]:
    """For each flag: true on every rank when it is true on one, with one message."""
    if world_size() == 1:
        return list(flags)
    values = paddle.to_tensor([float(flag) for flag in flags])
    dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return [value > 0 for value in values.tolist()]


def gather_texts(text: str) -> list[str]:
    """The texts of all ranks, on every rank."""
    if world_size() == 1:
        return [text]
    data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int32)  # gloo and NCCL both gather int32
    sizes = gather_integer(len(data))
    if not max(sizes):
        return [""] * len(sizes)
    flat = gather_rows(data[:, None], sizes)[:, 0].astype(np.uint8)
    return [part.tobytes().decode() for part in np.split(flat, np.cumsum(sizes)[:-1])]


_MESSAGE = 8 << 20  # int32 values per message
_ARRAY = "__array__"  # placeholder for an array in JSON, with its index


def share_tree(tree: Mapping[str, Any] | None, source: int) -> dict[str, Any]:
    """Broadcast the `tree` that rank `source` has read from files: nested dicts of arrays and plain values."""
    arrays: list[np.ndarray] = []

    def taken_out(array: Any) -> dict[str, int]:
        arrays.append(np.asarray(array))
        return {_ARRAY: len(arrays) - 1}

    own = json.dumps(tree, default=taken_out) if rank() == source else ""
    kinds = [(array.dtype.str, array.shape) for array in arrays]
    skeleton, kinds = json.loads(gather_texts(json.dumps([own, kinds]))[source])
    if rank() != source:
        arrays = [np.empty(shape, dtype) for dtype, shape in kinds]
    shared = [_share_array(array, source) for array in arrays]
    return json.loads(skeleton, object_hook=lambda found: shared[found[_ARRAY]] if _ARRAY in found else found)


def _share_array(array: np.ndarray, source: int) -> np.ndarray:
    count = -(-array.nbytes // 4)
    words = np.zeros(count, np.int32)  # gloo and NCCL both broadcast int32
    words.view(np.uint8)[: array.nbytes] = array.reshape(-1).view(np.uint8)
    for first in range(0, count, _MESSAGE):
        part = paddle.to_tensor(words[first : first + _MESSAGE])
        dist.broadcast(part, src=source)
        words[first : first + _MESSAGE] = part.numpy()
    return words.view(np.uint8)[: array.nbytes].view(array.dtype).reshape(array.shape)
