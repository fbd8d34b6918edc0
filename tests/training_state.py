"""All that training goes on from, for comparing two checkpoints to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union

import numpy as np

from ppfacerec.training.checkpoints.checkpoint import load_states
from ppfacerec.training.checkpoints.pretrained import read_weights

OF_A_RUN = ("run", "config")  # its name and its settings, output_dir among them: not what it has trained


def training_state(prefix: Union[str, Path]) -> dict[str, Any]:
    """Weights, optimizer, averages, progress and scaler of a checkpoint."""
    optimizer, states = load_states(prefix)
    rest = {key: value for key, value in states.items() if key not in OF_A_RUN}
    return {"weights": read_weights(prefix), "optimizer": optimizer, **rest}


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two states differ in a bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = [f"{where}.{key}: only in one" for key in one.keys() ^ other.keys()]
        for key in one.keys() & other.keys():
            found += differences(one[key], other[key], f"{where}.{key}")
        return sorted(found)
    first, second = np.asarray(_whole(one)), np.asarray(_whole(other))
    same = first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()
    return [] if same else [where]


def _whole(value: Any) -> Any:
    """A head that is in files of its own as one array."""
    return value.rows(0, value.shape[1]) if hasattr(value, "rows") else value


def assert_same_checkpoint(one: Union[str, Path], other: Union[str, Path]) -> None:
    assert differences(training_state(one), training_state(other)) == []
