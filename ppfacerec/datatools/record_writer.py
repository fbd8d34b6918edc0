"""Write a training set as RecordIO with insightface's header record and identity records."""

from collections.abc import Iterable
from pathlib import Path

from ppfacerec.core.image_size import IMAGE_SIZE
from ppfacerec.core.io.atomic_file import atomic_write, atomic_write_text
from ppfacerec.data.datasets.record_io import EXACT_NUMBERS, frame, pack


def write_records(path: Path, samples: Iterable[tuple[int, bytes]]) -> None:
    """Write `path` (x.rec), x.idx and property, which insightface reads too, completely or not at all.

    Record 0 has the end keys of images and identities; then come the images, and each identity's range of images.

    Args:
        samples: label and encoded image of each sample, by ascending label.

    Raises:
        ValueError: labels are not ascending, there is no image, or there are more than the header can count.
    """
    firsts: list[int] = []  # first image of each identity
    num_records = 0
    with atomic_write(path) as file, atomic_write_text(path.with_suffix(".idx")) as index:

        def append(labels: tuple[float, ...], image: bytes = b"") -> None:
            nonlocal num_records
            index.write(f"{num_records}\t{file.tell()}\n")
            file.write(frame(pack(labels, image, num_records)))
            num_records += 1

        append((0.0, 0.0))  # placeholder of the header record, which is written at the end
        for label, image in samples:
            if label < max(len(firsts) - 1, 0):
                raise ValueError(
                    f"A record file needs its images in order of label, got {label} after {len(firsts) - 1}."
                )
            firsts += [num_records] * (label + 1 - len(firsts))  # also for identities without images
            append((float(label),), image)
        images_end, num_identities = num_records, len(firsts)
        if images_end == 1:
            raise ValueError(f"{path} would contain no images.")
        if images_end + num_identities > EXACT_NUMBERS:
            raise ValueError(
                f"{images_end - 1} images and {num_identities} identities are more than a record file's header can "
                f"count exactly ({EXACT_NUMBERS}, float32). Keep the folder with its label.txt, or write several sets "
                "and join them with ConcatDataset."
            )
        for first, end in zip(firsts, [*firsts[1:], images_end]):
            append((float(first), float(end)))
        file.seek(0)
        file.write(frame(pack((float(images_end), float(num_records)), b"", 0)))
        (path.parent / "property").write_text(f"{num_identities},{IMAGE_SIZE},{IMAGE_SIZE}\n")
