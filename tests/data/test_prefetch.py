"""Making one step ahead: the same items in the same order, never more than one early, errors in their turn."""

from __future__ import annotations

import threading

import pytest

from ppfacerec.data.loading.prefetch import prefetched


def test_items_come_in_order_and_at_most_one_is_made_early() -> None:
    made: list[int] = []

    def make(item: int) -> int:
        made.append(item)
        return item * 10

    for k, item in enumerate(prefetched(make, range(20))):
        assert item == 10 * k
        assert len(made) <= k + 2
    assert made == list(range(20))
    assert list(prefetched(make, [])) == []


def test_the_next_item_is_made_while_this_one_is_used() -> None:
    second_made = threading.Event()

    def make(item: int) -> int:
        if item == 1:
            second_made.set()
        return item

    items = prefetched(make, range(2))
    assert next(items) == 0
    assert second_made.wait(timeout=10)  # in its thread; we have not asked for it


def test_an_error_is_raised_in_its_turn() -> None:
    items = prefetched(lambda item: 1 // item, [2, 1, 0, 1])
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(items)
