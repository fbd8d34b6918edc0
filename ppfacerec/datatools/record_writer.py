"""Write a training set as RecordIO with insightface's header record and identity records."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from ppfacerec.data.datasets.record_io import EXACT_NUMBERS, frame, pack


class RecordWriter:
    """Writes train.rec, train.idx and property, which insightface's own reader takes too; whole or not at all.

    Record 0 announces the number of images and identities, records 1, 2, ... are the images, and after them comes a
    record for each identity with the first and last of its images. Use it as a context manager.

    Args:
        folder: where the files go.
        name: "train" for train.rec.
    """

    def __init__(self, folder: str | Path, name: str = "train") -> None:
        self._folder, self._name = Path(folder), name
        self._folder.mkdir(parents=True, exist_ok=True)
        self._rec = open(self._temporary(".rec"), "wb")  # noqa: SIM115 (closed in __exit__)
        self._offsets: list[int] = []
        self._firsts: list[int] = []  # first image of each identity
        self._append(self._announcement())  # its numbers are put in at the end

    def add(self, label: int, image: bytes) -> None:
        """Append an encoded image.

        Raises:
            ValueError: the label is below that of the image before it: an identity's images stand together.
        """
        if label < len(self._firsts) - 1 or label < 0:
            raise ValueError(f"A record file needs its images by ascending label, got {label} after {self._last}.")
        while len(self._firsts) <= label:  # identities without images, too
            self._firsts.append(len(self._offsets))
        self._append(pack((float(label),), image, len(self._offsets)))

    @property
    def _last(self) -> int:
        return len(self._firsts) - 1

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._rec.close()
            for suffix in (".rec", ".idx"):
                self._temporary(suffix).unlink(missing_ok=True)

    def _finish(self) -> None:
        num_images, num_identities = len(self._offsets) - 1, len(self._firsts)
        if not num_images:
            raise ValueError(f"{self._folder / self._name}.rec would have no image.")
        if num_images + 1 + num_identities > EXACT_NUMBERS:
            raise ValueError(
                f"{num_images} images and {num_identities} identities are more than a record file's header can count "
                f"exactly ({EXACT_NUMBERS}, float32). Keep the folder with its label.txt, or write several sets and "
                "join them with ConcatDataset."
            )
        for first, end in zip(self._firsts, [*self._firsts[1:], num_images + 1]):
            self._append(pack((float(first), float(end)), b"", len(self._offsets)))
        self._rec.seek(0)
        self._rec.write(frame(self._announcement(num_images + 1, num_images + 1 + num_identities)))
        self._rec.flush()
        os.fsync(self._rec.fileno())
        lines = "".join(f"{key}\t{offset}\n" for key, offset in enumerate(self._offsets))
        self._temporary(".idx").write_text(lines)
        (self._folder / "property").write_text(f"{num_identities},112,112\n")
        for suffix in (".idx", ".rec"):
            os.replace(self._temporary(suffix), self._folder / f"{self._name}{suffix}")

    def _announcement(self, images_end: int = 0, identities_end: int = 0) -> bytes:
        return pack((float(images_end), float(identities_end)), b"", 0)

    def _append(self, data: bytes) -> None:
        self._offsets.append(self._rec.tell())
        self._rec.write(frame(data))

    def _temporary(self, suffix: str) -> Path:
        return self._folder / f".{self._name}{suffix}.tmp"
