"""Laws of the self-test: stored numbers are met here, and what computes otherwise is found."""

from __future__ import annotations

import shutil
import subprocess
import sys

import paddle
import pytest

from ppfacerec.core.device.runtime import MixedPrecision
from ppfacerec.core.registry import Spec
from ppfacerec.engine import selftest
from ppfacerec.heads import HEADS


def run(*launcher: str, device: str = "cpu") -> tuple[int, str]:
    program = [shutil.which("ppfacerec")] if launcher else ["-m", "ppfacerec"]
    command = [sys.executable, *launcher, *program, "selftest", "--device", device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_this_machine_computes_the_stored_numbers_also_on_two_ranks(tmp_path):
    status, output = run()
    assert status == 0 and output.count("  ok") == 5, output
    status, output = run("-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", str(tmp_path))
    assert status == 0 and output.count("  ok") == 2 and "head, 2 ranks: gradient norm" in output, output


@pytest.mark.gpu
@pytest.mark.skipif(not paddle.device.is_compiled_with_cuda(), reason="Paddle is the CPU package")
def test_this_gpu_computes_the_stored_numbers_in_all_precisions():
    status, output = run(device="gpu")
    assert status == 0 and "step, bfloat16 O1: loss after the step" in output, output


@pytest.mark.slow
def test_another_margin_and_a_missing_update_are_found(monkeypatch):
    def head(embedding_size, class_parallel):
        return HEADS.build(
            Spec("ArcMargin"), embedding_size=embedding_size, class_num=10, class_parallel=class_parallel, margin=0.45
        )

    monkeypatch.setattr(selftest, "_head", head)
    assert not any(check.passes for check in selftest.checks("cpu") if check.name.endswith("loss"))
    monkeypatch.undo()
    monkeypatch.setattr(selftest.TrainState, "apply_gradients", lambda self: None)
    wrong = [check.name for check in selftest.checks("cpu") if not check.passes]
    assert wrong == ["step, float32: loss after the step"]


def test_a_number_that_is_none_fails():
    assert not selftest.Check("loss", 1.0, float("nan"), 0.1).passes
    assert not selftest.Check("loss", 1.0, float("inf"), 0.1).passes


def test_half_precision_is_asked_of_gpus(monkeypatch):
    asked = []
    monkeypatch.setattr(selftest, "step_numbers", lambda precision: asked.append(precision) or selftest.STEP)
    assert all(isinstance(check, selftest.Check) for check in selftest.checks("gpu"))
    assert all(isinstance(precision, MixedPrecision) for precision in asked)
    assert [(precision.level, precision.dtype) for precision in asked] == [
        (None, "float16"), ("O1", "float16"), ("O1", "bfloat16"),
    ]  # fmt: skip
