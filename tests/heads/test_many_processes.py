"""Laws of the sharded head: the loss and gradients of one process, in any number of them, for every margin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from launching import launch

pytestmark = pytest.mark.slow


def test_sharded_heads_equal_the_dense_ones(tmp_path):
    """Loss, gradients of backbone and head, first weights, running statistics; uneven batches and shards."""
    found = []
    for num_processes in (1, 3):
        path = tmp_path / f"{num_processes}.npz"
        launch(
            num_processes,
            str(Path(__file__).parent / "many_processes.py"),
            str(path),
            log_dir=tmp_path / f"log{num_processes}",
        )
        found.append(dict(np.load(path)))
    one, other = found
    assert len(one) > 200
    assert other.keys() == one.keys()
    for name, expected in one.items():
        np.testing.assert_allclose(other[name], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max(), err_msg=name)
