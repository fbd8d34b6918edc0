"""Ranks: identity, synchronisation and communication."""

from ppfacerec.core.distributed.collectives import (
    any_rank,
    any_ranks,
    average_tensors,
    broadcast_tensors,
    collect_rows,
    gather_integer,
    gather_rows,
    gather_tensors,
    gather_texts,
    max_tensor,
    moments,
    share_tree,
    sum_tensor,
)
from ppfacerec.core.distributed.disks import ALONE, Disks, find_disks
from ppfacerec.core.distributed.meeting import (
    RankError,
    barrier,
    describe_ranks,
    exchange_failures,
    failing_together,
    ignore_sigterm,
    init,
    meeting,
)
from ppfacerec.core.distributed.ranks import rank, shares_of_batches, world_size

__all__ = [
    "ALONE",
    "Disks",
    "RankError",
    "any_rank",
    "any_ranks",
    "average_tensors",
    "barrier",
    "broadcast_tensors",
    "collect_rows",
    "describe_ranks",
    "exchange_failures",
    "failing_together",
    "find_disks",
    "gather_integer",
    "gather_rows",
    "gather_tensors",
    "gather_texts",
    "ignore_sigterm",
    "init",
    "max_tensor",
    "meeting",
    "moments",
    "rank",
    "share_tree",
    "shares_of_batches",
    "sum_tensor",
    "world_size",
]  # fmt: skip
