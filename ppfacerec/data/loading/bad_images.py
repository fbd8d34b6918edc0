"""Training images that cannot be read or decoded: they end the run, or are listed and replaced."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from ppfacerec.core.log import logger
from ppfacerec.core.printable import printable


class BadImage(NamedTuple):
    """A sample that could not be used, and why; `reason` names the sample."""

    sample: int
    reason: str


class BadImages:
    """Counts and lists the bad images of a run.

    Args:
        on_bad_image: "error" ends the run at the first one; "skip" takes the next good sample of the data set instead.
        max_bad_images: with "skip", the run ends when one process finds more distinct ones than this.
        list_path: text file of bad images, one per line, to which all ranks append; None: they are only logged.
    """

    def __init__(
        self,
        on_bad_image: Literal["error", "skip"] = "error",
        max_bad_images: int = 100,
        list_path: Path | None = None,
    ) -> None:
        self.skip = on_bad_image == "skip"
        self.max_bad_images = max_bad_images
        self._path = list_path
        self._seen: set[int] = set()

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, found: Sequence[BadImage]) -> None:
        """Record the bad images of a batch.

        Raises:
            ValueError: there are more than `max_bad_images`.
        """
        for image in found:
            if image.sample not in self._seen:
                self._seen.add(image.sample)
                if self._path:
                    _append_once(self._path, f"{printable(image.reason)}\n".encode())
                logger.warning("Bad image %d, replaced by the next good one: %s", len(self), image.reason)
        if len(self) > self.max_bad_images:
            raise ValueError(self.too_many(found[-1].reason))

    def too_many(self, last: str) -> str:
        where = f" They are listed in {self._path}." if self._path else ""
        return (
            f"More than max_bad_images ({self.max_bad_images}) training images cannot be used.{where} The last one: "
            f"{last} Repair the data, or set DataLoader.Train.loader.max_bad_images higher."
        )


def _append_once(path: Path, line: bytes) -> None:
    with open(path, "ab+") as file:  # appending: ranks do not overwrite each other's lines
        file.seek(0)
        if line not in file.readlines():
            file.write(line)
