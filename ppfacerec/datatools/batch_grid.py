"""Grid of training samples: as stored, and below after the transforms."""

import numpy as np

from ppfacerec.config import Config
from ppfacerec.core.image_size import IMAGE_SHAPE
from ppfacerec.core.io.atomic_file import atomic_write, check_target
from ppfacerec.core.opencv import import_cv2
from ppfacerec.core.ranges import require_count
from ppfacerec.data import SAMPLERS, TRAIN_DATASETS
from ppfacerec.data.loading.bad_images import BadImages
from ppfacerec.data.loading.batch_maker import BatchMaker
from ppfacerec.data.transforms.basic import Pipeline
from ppfacerec.data.transforms.images import decode_rgb

_GAP = 4  # pixels between images


def write_grid(config: Config, path: str, columns: int, rows: int) -> None:
    """Draw the first `columns` samples of the first epoch, and below them their transformed versions in `rows` epochs.

    Raises:
        ValueError: fewer than one column or row, a name that is not .png or .jpg, a bad image.
        OSError: the file cannot be written.
    """
    require_count("--columns", columns)
    require_count("--rows", rows)
    suffix = check_target(path, ".png", ".jpg", ".jpeg").suffix
    section = config.DataLoader.Train
    assert section is not None, "checked by load_config"
    dataset = TRAIN_DATASETS.build(section.dataset)
    sampler = SAMPLERS.build(section.sampler, num_samples=len(dataset), seed=config.Global.seed)
    indices = sampler.order(1)[:columns]
    maker = BatchMaker(dataset, Pipeline(section.transform_ops), BadImages(), config.Global.seed)
    grid = np.empty((rows + 1, len(indices), *IMAGE_SHAPE), np.uint8)
    cv2 = import_cv2()
    for k, index in enumerate(indices):
        stored = decode_rgb(dataset.read(int(index)), dataset.where(int(index)))
        grid[0, k] = cv2.resize(stored, IMAGE_SHAPE[1::-1], interpolation=cv2.INTER_AREA)
    for row in range(rows):
        maker.make(row + 1, indices, grid[row + 1])
    with atomic_write(path) as file:
        file.write(cv2.imencode(suffix, tiled(grid)[:, :, ::-1])[1].tobytes())


def tiled(grid: np.ndarray) -> np.ndarray:
    """Tile images (rows, columns, H, W, 3) with white gaps, twice as wide below the first row."""
    spaced = np.pad(grid, ((0, 0), (0, 0), (_GAP, 0), (_GAP, 0), (0, 0)), constant_values=255)
    rows, columns, height, width, channels = spaced.shape
    picture = spaced.swapaxes(1, 2).reshape(rows * height, columns * width, channels)
    return np.pad(np.insert(picture, [height] * _GAP, 255, axis=0), ((0, _GAP), (0, _GAP), (0, 0)), constant_values=255)
