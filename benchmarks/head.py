"""What does the head cost, and how does the cost grow?

Forward and backward of the classifier over C identities with ArcFace and cross-entropy, in one thread. Each number is
the median of fresh processes that take turns; time is CPU time, memory the peak of a step above the process with its
weight, without the gradient. "plain" makes the logits, the one-hot labels and the margin of all of them, and Paddle's
cross-entropy, as PaddleClas does.

    python benchmarks/head.py                      # the comparison
    python benchmarks/head.py --growth             # tables over classes, batch, embedding size and chunk; the plot
    python benchmarks/head.py --million            # a whole step of 1,000,000 classes, peak of the process
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MIB = 1 << 20
STEPS = 4
Step = tuple[Callable[[], None], Callable[[], None]]  # forward and backward; the optimizer, where there is one


def peak_mib(key: str = "VmHWM") -> float:
    """Of this process: VmHWM the peak since `forget_peak`, VmRSS the present."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:"))


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def plain_step(case: dict[str, Any]) -> Step:
    import paddle
    from paddle.nn import functional as F

    D, C, B, margin = case["embedding_size"], case["classes"], case["batch"], 0.5
    weight = paddle.create_parameter([D, C], "float32")
    embedding, labels = paddle.randn([B, D]), paddle.randint(0, C, [B])
    embedding.stop_gradient = False

    def step() -> None:
        unit = embedding / paddle.sqrt(paddle.sum(paddle.square(embedding), axis=1, keepdim=True))
        cosine = paddle.matmul(unit, weight / paddle.sqrt(paddle.sum(paddle.square(weight), axis=0, keepdim=True)))
        sine = paddle.sqrt(1.0 - paddle.square(cosine) + 1e-6)
        phi = cosine * math.cos(margin) - sine * math.sin(margin)
        below_pi = paddle.cast(cosine > math.cos(math.pi - margin), "float32")
        phi = below_pi * phi + (1.0 - below_pi) * (cosine - math.sin(margin) * margin)
        one_hot = F.one_hot(labels, C)
        logits = (one_hot * phi + (1.0 - one_hot) * cosine) * 64.0
        F.cross_entropy(logits, labels.unsqueeze(1)).backward()

    def finish() -> None:
        weight.clear_gradient(False)
        embedding.clear_gradient(False)

    return step, finish


def head_step(case: dict[str, Any]) -> Step:
    import paddle

    from ppfacerec.heads import ArcMargin
    from ppfacerec.losses import CELoss
    from ppfacerec.optim import OPTIMIZERS, parameter_groups
    from ppfacerec.optim.sparse_update import SparseUpdate

    options = {} if case.get("rate", 1.0) == 1.0 else {"sample_rate": case["rate"]}
    head = ArcMargin(case["embedding_size"], case["classes"], chunk_size=case.get("chunk"), **options)
    embedding, loss = paddle.randn([case["batch"], case["embedding_size"]]), CELoss()
    labels = paddle.randint(0, case["classes"], [case["batch"]])
    embedding.stop_gradient = False
    optimizer = sparse = None
    if case.get("optimizer"):
        optimizer = OPTIMIZERS.get(case["optimizer"])(groups=parameter_groups([head], 5e-4, False))
        optimizer.set_lr(0.1)
        sparse = SparseUpdate(head.active, optimizer) if head.active else None

    def step() -> None:
        loss(head(embedding, labels), labels).backward()

    def finish() -> None:
        embedding.clear_gradient(False)
        if sparse is not None:
            with sparse.rows_of_step():
                optimizer.step()
        elif optimizer is not None:
            optimizer.step()
        elif head.active:
            head.active.store()
        for parameter in head.parameters():
            parameter.clear_gradient(False)

    return step, finish


def measure(case: dict[str, Any]) -> dict[str, float]:
    """One process: milliseconds of forward and backward and of the whole step, MiB above weight and gradient, peak."""
    os.environ.update(GLOG_minloglevel="3", OMP_NUM_THREADS="1")
    import paddle

    paddle.set_device("cpu")
    paddle.seed(0)
    if case.get("tuned"):
        from ppfacerec.core.device.cpu_tuning import tune_cpu

        tune_cpu()
    step, finish = (plain_step if case["version"] == "plain" else head_step)(case)
    before, times, whole = peak_mib("VmRSS"), [], []
    forget_peak()
    for _ in range(STEPS + 1):
        start = time.process_time()
        step()
        times.append(time.process_time() - start)
        finish()
        whole.append(time.process_time() - start)
    slots = {None: 0, "SGD": 0, "Momentum": 1, "AdamW": 2}[case.get("optimizer")]
    kept = case.get("rate", 1.0) + slots  # the gradient, and the optimizer's state
    kept *= 4 * case["embedding_size"] * case["classes"] / MIB
    return {
        "ms": 1000 * statistics.median(times[1:]),
        "whole": 1000 * statistics.median(whole[1:]),
        "above": peak_mib() - before - kept,
        "peak": peak_mib(),
    }


def run(cases: Sequence[dict[str, Any]], rounds: int) -> list[dict[str, float]]:
    """The medians of each case; the cases take turns in every round."""
    found: list[list[dict[str, float]]] = [[] for _ in cases]
    for _ in range(rounds):
        for results, case in zip(found, cases):
            command = [sys.executable, __file__, "--child", json.dumps(case)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
    return [{key: statistics.median(r[key] for r in results) for key in results[0]} for results in found]


def case(
    version: str, embedding_size: int = 128, classes: int = 93431, batch: int = 128, **more: Any
) -> dict[str, Any]:
    return {"version": version, "embedding_size": embedding_size, "classes": classes, "batch": batch, **more}


def compare(rounds: int) -> None:
    """Against the plain version, and sampled against all classes."""
    print("| D | version | ms | ratio to plain | MiB above weight and gradient |\n|---|---|---|---|---|")
    for D in (128, 512):
        rows = {
            "plain": case("plain", D),
            "plain, with ppfacerec's settings of the process": case("plain", D, tuned=True),
            "ppfacerec": case("head", D, optimizer="Momentum"),
            "ppfacerec, sample_rate 0.1": case("head", D, rate=0.1, optimizer="Momentum"),
        }
        results = run(list(rows.values()), rounds)
        for name, result in zip(rows, results):
            ratio = results[0]["ms"] / result["ms"]
            print(f"| {D} | {name} | {result['ms']:.0f} | {ratio:.1f} | {result['above']:.0f} |")
        whole, sampled = results[2:]
        print(f"| {D} | all classes / sampled, forward and backward | {whole['ms'] / sampled['ms']:.1f} times | | |")
        print(
            f"| {D} | the same with the step of Momentum | {whole['whole'] / sampled['whole']:.1f} times | | |",
            flush=True,
        )


def growth(rounds: int, plot: Path) -> None:
    """How the cost grows with each size, the others fixed at C = 93,431, batch 128, D = 128."""
    swept = {
        "classes": [10_000, 30_000, 93_431, 300_000, 1_000_000],
        "batch": [16, 32, 64, 128, 256, 512],
        "embedding_size": [64, 128, 256, 512],
        "chunk": [128, 256, 512, 1024, 2048, 4096, 8192, 93_431],
        "rate": [0.01, 0.03, 0.1, 0.3, 1.0],
    }
    curves = {}
    for name, values in swept.items():
        results = run([case("head", **{name: value}) for value in values], rounds)
        curves[name] = values, [r["ms"] for r in results], [r["above"] for r in results]
        print(f"\n| {name} | ms a step | MiB above weight and gradient |\n|---|---|---|")
        for value, result in zip(values, results):
            print(f"| {value:,} | {result['ms']:.1f} | {result['above']:.0f} |", flush=True)
    draw(curves, plot)


def draw(curves: dict[str, tuple[list[float], list[float], list[float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, panels = pyplot.subplots(1, len(curves), figsize=(3.4 * len(curves), 3.2), constrained_layout=True)
    titles = {
        "classes": "classes C", "batch": "batch", "embedding_size": "embedding size D", "chunk": "chunk of classes",
        "rate": "sample rate",
    }  # fmt: skip
    for panel, (name, (values, milliseconds, _)) in zip(panels, curves.items()):
        panel.loglog(values, milliseconds, "o-", color="#1f77b4")
        panel.set_xlabel(titles[name])
        panel.set_ylim(1, 10_000)
        panel.set_xticks(values[:: -(-len(values) // 5)])
        panel.xaxis.set_major_formatter(ticker.EngFormatter(sep="") if values[0] >= 1 else ticker.ScalarFormatter())
        panel.xaxis.set_minor_formatter(ticker.NullFormatter())
        panel.grid(True, which="major", alpha=0.3)
    panels[0].set_ylabel("ms a step, forward and backward")
    figure.suptitle("One head on one CPU core; the others at C = 93,431, batch 128, D = 128")
    figure.savefig(path, dpi=90)


def million(rounds: int) -> None:
    """Whole steps, optimizer included, with the peak of the process."""
    rows = {
        "SGD": case("head", classes=1_000_000, optimizer="SGD"),
        "Momentum": case("head", classes=1_000_000, optimizer="Momentum"),
        "Momentum, sample_rate 0.1": case("head", classes=1_000_000, optimizer="Momentum", rate=0.1),
        "AdamW, sample_rate 0.1": case("head", classes=1_000_000, optimizer="AdamW", rate=0.1),
    }
    print("| C = 1,000,000, D = 128, batch 128 | ms a step | MiB of the process at its peak |\n|---|---|---|")
    for name, result in zip(rows, run(list(rows.values()), rounds)):
        print(f"| {name} | {result['whole']:.0f} | {result['peak']:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes of each kind, in turn")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--plot", type=Path, default=Path(__file__).parents[1] / "docs" / "head_cost.png")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.child)))
    elif arguments.growth:
        growth(arguments.rounds, arguments.plot)
    elif arguments.million:
        million(arguments.rounds)
    else:
        compare(arguments.rounds)


if __name__ == "__main__":
    main()
