"""A training set without files, for benchmarks."""

import numpy as np

from ppfacerec.core.image_size import IMAGE_SHAPE
from ppfacerec.core.opencv import import_cv2
from ppfacerec.data.datasets.base import check_class_num
from ppfacerec.data.datasets.class_identity import ClassIdentity, hash_numbers, identity_by_samples

_DISTINCT = 64


class SyntheticDataset:
    """JPEGs of about 5 kB from memory, to measure the speed of a run without a disk.

    64 drawn pictures are repeated; there is nothing to learn from them.

    Args:
        num_images: number of images.
        num_identities: number of classes, assigned to the images in turn.
        seed: random seed of the pictures.
        class_num: upper limit of the number of identities; None: no limit.

    Raises:
        ValueError: fewer images than identities.
    """

    def __init__(
        self, num_images: int = 100_000, num_identities: int = 10_000, seed: int = 0, class_num: int | None = None
    ) -> None:
        if not 1 <= num_identities <= num_images:
            raise ValueError(f"num_identities: expected 1 to num_images ({num_images}), got {num_identities}.")
        self.labels = np.arange(num_images, dtype=np.int32) % num_identities
        self.num_classes = num_identities
        check_class_num(num_identities, class_num, "SyntheticDataset")
        rng = np.random.default_rng(seed)
        self._images = [_picture(rng) for _ in range(_DISTINCT)]

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> bytes:
        return self._images[index % _DISTINCT]

    def where(self, index: int) -> str:
        return f"synthetic image {index}"

    def class_identity(self) -> ClassIdentity:
        """Return the identity of the classes, by the numbers of their images."""
        return identity_by_samples(hash_numbers(np.arange(len(self))), self.labels, self.num_classes)


def _picture(rng: np.random.Generator) -> bytes:
    """Draw a smooth pattern with enough noise to take a face's 5 kB."""
    cv2 = import_cv2()
    pattern = cv2.resize(
        rng.uniform(0, 255, (8, 8, 3)).astype(np.float32), IMAGE_SHAPE[:2], interpolation=cv2.INTER_CUBIC
    )
    noisy = np.clip(pattern + rng.normal(0, 6, pattern.shape), 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
