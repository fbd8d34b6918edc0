"""The short form of chaos.py and of benchmarks/resume_matrix.py; the long ones are run by hand."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from launching import ROOT

pytestmark = pytest.mark.slow


def run(script: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments], env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "parts", [("kills", "signals"), ("kills with workers", "damage"), ("disk full", "read-only", "two runs")]
)
def test_a_training_that_is_done_violence_to_gives_the_undisturbed_ones_model(parts):
    said = run("tests/chaos.py", "--kills", "4", "--others", "1", "--epochs", "10", "--only", *parts)
    for part in parts:
        assert f"{part}: equal to the undisturbed run" in said


def test_a_process_of_two_that_is_killed_makes_no_difference_to_the_model():
    said = run("tests/chaos.py", "--others", "1", "--epochs", "10", "--only", "two ranks")
    assert "kills of one of two: 1" in said


def test_a_training_killed_after_every_step_is_the_uninterrupted_one_to_the_last_bit():
    said = run("benchmarks/resume_matrix.py", "everything together, 1 process")
    assert "| everything together, 1 process | 1 | 9 times | yes |" in said
