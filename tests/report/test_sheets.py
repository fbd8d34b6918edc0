"""Laws of the sheets of faces: who is on them, what stands below, what is red."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from ppfacerec.evaluation.report.people import people_of
from ppfacerec.evaluation.report.sheet import Cell, draw_sheet


def pairs(index, is_same, identities=None):
    index = np.array(index)
    return SimpleNamespace(
        index=index, is_same=np.array(is_same), identities=identities, num_images=int(index.max()) + 1
    )


def test_people_without_names_are_joined_by_their_pairs():
    chained = pairs([5, 3, 0, 1, 3, 1, 2, 4, 6, 0], [True, False, True, True, False])
    people = people_of(chained)
    assert [(p.name, p.images) for p in people] == [
        ("person 1", [1, 3, 5]), ("person 2", [2, 4]), ("person 3", [0]), ("person 4", [6]),
    ]  # fmt: skip


def test_a_long_chain_of_pairs_is_one_person():
    order = np.random.default_rng(0).permutation(300)
    links = np.stack([order[:-1], order[1:]], axis=1)
    (person,) = people_of(pairs(links.ravel(), [True] * 299), most_of_one=300, most_faces=300)
    assert person.images == list(range(300))


def test_people_with_names_keep_them_and_the_numbers_are_bounded():
    named = pairs(range(8), [True] * 4, ["anna", "bo", "bo", "bo", "bo", "anna", "cy", "cy"])
    assert [(p.name, p.images) for p in people_of(named, most_faces=6, most_of_one=3)] == [
        ("bo", [1, 2, 3]), ("anna", [0, 5]), ("cy", [6]),
    ]  # fmt: skip


def test_a_sheet_has_the_pictures_in_order_and_errors_in_red():
    black, grey = np.zeros((40, 60, 3), np.uint8), np.full((40, 60, 3), 90, np.uint8)
    sheet = draw_sheet([Cell(black, "a"), Cell(grey, "b", is_marked=True), Cell(grey, "a much longer caption")], 2)
    assert sheet.shape == (2 * 66 + 6, 2 * 66 + 6, 3)
    assert (sheet[6:46, 6:66] == 0).all()
    assert (sheet[6:46, 72:132] == 90).all()
    assert (sheet[72:112, 6:66] == 90).all()
    assert (sheet[72:, 72:] == 255).all()  # nothing there, and no caption runs into it
    below = sheet[46:66, 72:132].reshape(-1, 3).astype(int)
    assert (below[:, 0] - below[:, 1]).max() > 100
    left = sheet[46:66, 6:66].reshape(-1, 3).astype(int)
    assert np.ptp(left, axis=1).max() == 0
    assert left.min() < 120
