"""Sheets of small images with captions: a batch, the hardest pairs, people."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ppfacerec.core.opencv import import_cv2
from ppfacerec.data.pairs.pair_set import PairSet
from ppfacerec.evaluation.report.hardest import errors, hardest, thumbnail
from ppfacerec.evaluation.report.people import Person
from ppfacerec.metrics import VerificationResult

BATCH_SHEET, PAIR_SHEET = (4, 8), (3, 4)  # rows and columns
PEOPLE_COLUMNS, PEOPLE_SIZE = 16, 80  # faces, and pixels of each
_GAP, _CAPTION = 6, 20  # pixels
_TEXT, _MARKED = (60, 60, 60), (200, 30, 30)  # RGB


@dataclass(frozen=True)
class Cell:
    """An image (H, W, 3), uint8 RGB, and its caption, which is red if `is_marked`."""

    picture: np.ndarray
    caption: str
    is_marked: bool = False


def draw_sheet(cells: Sequence[Cell], columns: int) -> np.ndarray:
    """Draw equally large cells, at most `columns` in a row, as one image (H, W, 3), uint8 RGB."""
    height, width = cells[0].picture.shape[:2]
    down, right = height + _CAPTION + _GAP, width + _GAP
    rows = -(-len(cells) // columns)
    sheet = np.full((rows * down + _GAP, min(columns, len(cells)) * right + _GAP, 3), 255, np.uint8)
    for number, cell in enumerate(cells):
        top, left = _GAP + number // columns * down, _GAP + number % columns * right
        sheet[top : top + height, left : left + width] = cell.picture
        _write(sheet, cell, top + height + _CAPTION - 6, left, width)
    return sheet


def _write(sheet: np.ndarray, cell: Cell, baseline: int, left: int, width: int) -> None:
    cv2 = import_cv2()
    words = cell.caption.encode("ascii", "replace").decode()  # OpenCV draws ASCII only
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.42
    (needed, _), _ = cv2.getTextSize(words, font, scale, 1)
    scale *= min(1.0, (width - 4) / needed) if needed else 1.0
    colour = _MARKED if cell.is_marked else _TEXT
    cv2.putText(sheet, words, (left, baseline), font, scale, colour, 1, cv2.LINE_AA)


def batch_sheet(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Draw the first images of a batch (N, H, W, 3), uint8 RGB, with their classes (N,)."""
    rows, columns = BATCH_SHEET
    cells = [Cell(image, f"class {label}") for image, label in zip(images[: rows * columns], labels)]
    return draw_sheet(cells, columns)


def pair_sheet(pairs: PairSet, result: VerificationResult, is_same: bool) -> np.ndarray:
    """Draw a set's hardest pairs of one kind with their cosines, errors in red."""
    rows, columns = PAIR_SHEET
    cells, wrong = [], errors(result)
    for pair in hardest(result, is_same)[: rows * columns]:
        left, right = (thumbnail(pairs, int(image)) for image in pairs.index[2 * pair : 2 * pair + 2])
        caption = f"pair {pair}: cosine {1 - result.distances[pair] / 2:.3f}"
        cells.append(Cell(np.concatenate([left, right], axis=1), caption, wrong[pair]))
    return draw_sheet(cells, columns)


def people_sheet(pairs: PairSet, people: Sequence[Person]) -> np.ndarray:
    """Draw small faces of some people of a set, person by person, with the numbers of their images."""
    cv2, size = import_cv2(), (PEOPLE_SIZE, PEOPLE_SIZE)
    cells = [
        Cell(cv2.resize(thumbnail(pairs, image), size, interpolation=cv2.INTER_AREA), f"{person.name} #{image}")
        for person in people
        for image in person.images
    ]
    return draw_sheet(cells, PEOPLE_COLUMNS)
