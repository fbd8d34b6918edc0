"""Communication between the ranks of a training, by paddle.distributed's collectives."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import paddle
import paddle.distributed as dist

from ppfacerec.core.distributed.ranks import rank, world_size


@paddle.no_grad()
def broadcast_tensors(tensors: Iterable[paddle.Tensor], source: int = 0, bucket_mib: int = 32) -> None:
    """Give every rank the tensors of one; sent in buckets of one dtype, a large head in pieces."""
    for bucket in _buckets(tensors, bucket_mib):
        flat = paddle.concat([t.reshape([-1]) for t in bucket])
        pieces = [flat[first : first + (bucket_mib << 18)] for first in range(0, flat.size, bucket_mib << 18)]
        for piece in pieces:
            dist.broadcast(piece, src=source)
        _split_into(paddle.concat(pieces), bucket)


@paddle.no_grad()
def average_tensors(tensors: Iterable[paddle.Tensor], bucket_mib: int = 32) -> None:
    """Replace each tensor by its mean over the ranks, in place; sent in buckets of one dtype.

    Args:
        bucket_mib: size of one message; few large messages cost less than many small ones.
    """
    for bucket in _buckets(tensors, bucket_mib):
        flat = paddle.concat([t.reshape([-1]) for t in bucket])
        dist.all_reduce(flat)  # SUM: gloo has no AVG
        _split_into(flat / world_size(), bucket)


def _buckets(tensors: Iterable[paddle.Tensor], bucket_mib: int) -> Iterator[list[paddle.Tensor]]:
    """Neighbours of one dtype together; nothing where there is one rank only."""
    bucket: list[paddle.Tensor] = []
    size = 0
    for tensor in tensors if world_size() > 1 else ():
        if bucket and (tensor.dtype != bucket[0].dtype or size > bucket_mib << 18):
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
    """Concatenate the rows of all ranks in rank order, on every rank.

    Args:
        rows: (counts[rank], D) of this rank.
        counts: rows of each rank, known to all.
    """
    if world_size() == 1:
        return rows
    padded = np.zeros((max(counts), rows.shape[1]), rows.dtype)  # gloo gathers equal sizes only
    padded[: len(rows)] = rows
    gathered: list[paddle.Tensor] = []
    dist.all_gather(gathered, paddle.to_tensor(padded))
    return np.concatenate([part.numpy()[:count] for part, count in zip(gathered, counts)])


def collect_rows(rows: paddle.Tensor, counts: Sequence[int], block: int = 1 << 16) -> np.ndarray:
    """All ranks' rows in the order of ranks, on rank 0; the other ranks help and get an empty array.

    Args:
        rows: (counts[rank], D) float32 of this rank.
        counts: rows of each rank, known to all.
        block: rows a message; a process never holds more of another's than that, but for rank 0.
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
    """Concatenate the rows of all ranks in rank order, on every rank and device; no gradient flows back.

    Args:
        tensor: (counts[rank], ...) of this rank.
        counts: rows of each rank, known to all.
    """
    if world_size() == 1:
        return tensor
    missing = max(counts) - tensor.shape[0]
    if missing:  # gloo gathers equal sizes only
        tensor = paddle.concat([tensor, paddle.zeros([missing, *tensor.shape[1:]], tensor.dtype)])
    gathered: list[paddle.Tensor] = []
    dist.all_gather(gathered, tensor)
    return paddle.concat([part[:count] for part, count in zip(gathered, counts)])


def gather_integers(values: Sequence[int]) -> list[list[int]]:
    """The integers of every rank, as many from each, on every rank."""
    if world_size() == 1:
        return [list(values)]
    gathered: list[paddle.Tensor] = []
    dist.all_gather(gathered, paddle.to_tensor(list(values), dtype="int64"))
    return [part.tolist() for part in gathered]


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
    """Mean and unbiased standard deviation of the values (N,) of all ranks, whatever each one's number.

    Two passes, as the variance of numbers far from 0 drowns in E[x^2] - E[x]^2. One value alone deviates by 0.
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
    """For each flag: true on every rank when it is true on one. One message."""
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
    lengths: list[paddle.Tensor] = []
    dist.all_gather(lengths, paddle.to_tensor([len(data)], dtype="int32"))
    sizes = [int(length.item()) for length in lengths]
    if not max(sizes):
        return [""] * len(sizes)
    flat = gather_rows(data[:, None], sizes)[:, 0].astype(np.uint8)
    return [part.tobytes().decode() for part in np.split(flat, np.cumsum(sizes)[:-1])]


_MESSAGE = 8 << 20  # int32 a message


def share_tree(tree: Mapping[str, Any] | None, source: int) -> dict[str, Any]:
    """Give every rank what one has read from files: nested dicts of arrays and plain values.

    Args:
        tree: on rank `source`; the others' is not looked at.
        source: the rank that has it.
    """
    arrays: list[np.ndarray] = []
    own = json.dumps(_taken_out(tree, arrays)) if rank() == source else ""
    skeleton = json.loads(gather_texts(own)[source])
    kinds: list[tuple[str, list[int]]] = json.loads(
        gather_texts(json.dumps([(array.dtype.str, array.shape) for array in arrays]))[source]
    )
    shared = []
    for number, (dtype, shape) in enumerate(kinds):
        array = np.ascontiguousarray(arrays[number]) if rank() == source else np.empty(shape, dtype)
        shared.append(_share_array(array, source))
    return _put_back(skeleton, shared)


def _share_array(array: np.ndarray, source: int) -> np.ndarray:
    count = -(-array.nbytes // 4)
    words = np.zeros(count, np.int32)  # gloo and NCCL both broadcast int32
    words.view(np.uint8)[: array.nbytes] = array.reshape(-1).view(np.uint8)
    for first in range(0, count, _MESSAGE):
        part = paddle.to_tensor(words[first : first + _MESSAGE])
        dist.broadcast(part, src=source)
        words[first : first + _MESSAGE] = part.numpy()
    return words.view(np.uint8)[: array.nbytes].view(array.dtype).reshape(array.shape)


def _taken_out(value: Any, arrays: list[np.ndarray]) -> Any:
    """The tree with a number for each array, which JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _taken_out(item, arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_taken_out(item, arrays) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        arrays.append(np.asarray(value))
        return {"__array__": len(arrays) - 1}
    return value


def _put_back(value: Any, arrays: Sequence[np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_put_back(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"__array__"}:
        return arrays[value["__array__"]]
    return {key: _put_back(item, arrays) for key, item in value.items()}
