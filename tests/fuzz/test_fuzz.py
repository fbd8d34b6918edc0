"""No file of any kind does more than be read or be refused: the short form of fuzz.py."""

from __future__ import annotations

import sys

import pytest
from fuzz import run
from fuzz_formats import FORMATS
from fuzz_guard import ALLOWED_ERRORS

CASES = 100
SLOW = {"YAML", "YAML config", "inference.yml"}  # PyYAML takes milliseconds for a config


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc and limits the address space")
@pytest.mark.parametrize(("names", "cases"), [(sorted(set(FORMATS) - SLOW), CASES), (sorted(SLOW), CASES // 4)])
def test_spoilt_files_of_every_kind_are_read_or_refused(names, cases):
    outcomes, failures = run([names], cases, seed=0)
    assert failures == []
    assert set(outcomes) == set(names)
    for name, counts in outcomes.items():
        assert set(counts) <= {"read", *ALLOWED_ERRORS}
        assert sum(counts.values()) == cases
        assert counts["read"] < cases, f"nothing of {name} was spoilt"
