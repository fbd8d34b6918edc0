"""Detect which ranks share a disk."""

import uuid
from dataclasses import dataclass
from pathlib import Path

from ppfacerec.core.distributed.collectives import gather_texts
from ppfacerec.core.distributed.meeting import barrier, failing_together
from ppfacerec.core.distributed.ranks import rank, world_size


@dataclass(frozen=True)
class Disks:
    """The ranks that see the same files in a folder."""

    leaders: tuple[int, ...] = (0,)  # for each rank, the first one that shares its disk

    @property
    def is_leader(self) -> bool:
        """Whether this rank is the first on its disk, which does the work needed once per disk."""
        return self.leaders[rank()] == rank()

    @property
    def is_shared(self) -> bool:
        """Whether all ranks share one disk."""
        return set(self.leaders) == {0}


ALONE = Disks()


def find_disks(folder: Path) -> Disks:
    """Detect which ranks see one folder, created if missing, by temporary files in it. All ranks call it.

    Raises:
        ValueError: it cannot be created or written to; on every rank if it fails on one.
    """
    if world_size() == 1:
        return ALONE
    own = folder / f".disk.{uuid.uuid4().hex}.0.tmp"  # removed with other temporary files after a kill
    with failing_together():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            own.touch()
        except OSError as error:
            raise ValueError(f"{folder} cannot be written to ({error.strerror}).") from error
    names = gather_texts(own.name)
    seen = [number for number, name in enumerate(names) if (folder / name).exists()]
    leaders = tuple(int(text) for text in gather_texts(str(min(seen))))
    barrier()
    own.unlink(missing_ok=True)
    return Disks(leaders)
