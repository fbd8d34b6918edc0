from __future__ import annotations

import os

import pytest

from ppfacerec.core.device import cpu_tuning


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("vendor_id : AuthenticAMD\nflags : sse2 fma avx avx2 bmi2\n", True),
        ("vendor_id : AuthenticAMD\nflags : sse2 sse4a misalignsse\n", False),
        ("vendor_id : GenuineIntel\nflags : sse2 fma avx avx2 bmi2\n", False),
    ],
)
def test_only_amd_with_avx2_is_recognised(tmp_path, cpuinfo, expected):
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    assert cpu_tuning._is_amd_with_avx2(path) is expected
    assert cpu_tuning._is_amd_with_avx2(tmp_path / "missing") is False


def test_what_the_user_has_set_is_left_alone(monkeypatch):
    monkeypatch.setenv("MKL_DEBUG_CPU_TYPE", "4")
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1000000")
    assert cpu_tuning.tune_cpu() == []
    assert os.environ["MKL_DEBUG_CPU_TYPE"] == "4"


def test_intel_processors_are_left_alone(monkeypatch):
    monkeypatch.delenv("MKL_DEBUG_CPU_TYPE", raising=False)
    monkeypatch.setattr(cpu_tuning, "_is_amd_with_avx2", lambda: False)
    assert cpu_tuning._use_avx2_on_amd() is None
    assert "MKL_DEBUG_CPU_TYPE" not in os.environ
