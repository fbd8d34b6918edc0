"""Is a training that is killed after every step and resumed the uninterrupted one, to the last bit?

    python benchmarks/resume_matrix.py

Each line is a training of 15 steps with some option: once as a whole, and once killed (SIGKILL) after each single step
and resumed with ``Global.checkpoints: auto``, with several processes after every fourth. Compared are all parameters,
statistics, averages and the optimizer's state of every checkpoint that is left at the end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

import chaos  # noqa: E402 (imports Paddle once; trainings are forked)
import numpy as np  # noqa: E402
import paddle  # noqa: E402
from training_state import differences, training_state  # noqa: E402

AUGMENT = (
    "DataLoader.Train.dataset.transform_ops=[{DecodeImage: {to_rgb: True}}, {RandFlipImage: {flip_code: 1}}, "
    "{RandCropPad: {}}, {RandPhotometric: {}}, {RandBlur: {}}, {RandJPEG: {}}, {RandomErasing: {}}, "
    "{NormalizeImage: {scale: 0.00392157, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}}]"
)
EVALUATE = "Global.eval_interval=1"
SAMPLED = "Arch.Head.sample_rate=0.1"
SHARDS = ["Arch.Head.class_parallel=True", "Global.save_head=shards"]
WORKERS = "DataLoader.Train.loader.num_workers=2"
MOMENTUM = "Optimizer={name: Momentum, weight_decay: 0.0005, lr: {name: Cosine, learning_rate: 0.01, warmup_epoch: 1}}"
ACCUMULATE = "Global.update_freq=2"  # 5 batches an epoch: the third step has one
EMA = "EMA.decay=0.9"

# name, processes, overrides
OPTIONS: list[tuple[str, int, list[str]]] = [
    ("AdamW, warm-up and cosine, dropout, flips", 1, []),
    ("all augmentations", 1, [AUGMENT]),
    ("all augmentations, 2 data workers", 1, [AUGMENT, WORKERS]),
    ("2 data workers, not persistent", 1, [WORKERS, "DataLoader.Train.loader.persistent_workers=False"]),
    ("update_freq 2", 1, [ACCUMULATE]),
    ("EMA, evaluation after every epoch", 1, [EMA, EVALUATE]),
    ("sampled head, sparse update", 1, [SAMPLED]),
    ("sampled head, all rows updated", 1, [SAMPLED, "Arch.Head.sparse_update=False"]),
    ("Momentum, sampled head", 1, [MOMENTUM, SAMPLED]),
    ("CurricularMargin (running statistic)", 1, ["Arch.Head.name=CurricularMargin"]),
    ("AdaMargin (running statistics)", 1, ["Arch.Head.name=AdaMargin"]),
    ("3 sub-centres, head in shards", 1, ["Arch.Head.num_sub_centers=3", "Global.save_head=shards"]),
    ("clip_norm, piecewise rate", 1, ["Optimizer.clip_norm=1",
                                      "Optimizer.lr={name: Piecewise, decay_epochs: [1], values: [0.01, 0.001]}"]),
    ("saving in the foreground", 1, ["Global.save_in_background=False"]),
    ("everything together, 1 process", 1, [AUGMENT, WORKERS, ACCUMULATE, EMA, EVALUATE, SAMPLED, MOMENTUM]),
    ("2 processes", 2, [EVALUATE]),
    ("2 processes, bn_sync broadcast", 2, ["Global.bn_sync=broadcast"]),
    ("2 processes, head spread and in shards", 2, SHARDS),
    ("2 processes, everything together", 2, [AUGMENT, WORKERS, ACCUMULATE, EMA, EVALUATE, SAMPLED, *SHARDS]),
]  # fmt: skip
COMMON = ["Global.save_interval_steps=1", "Global.save_interval=1", "Global.keep_last=0"]
STEPS_VARIABLE = "RESUME_MATRIX_STEPS"
_KILLER = f"""
import os, signal
from ppfacerec.training.checkpoints.saver import Saver

after_step, steps = Saver.after_step, int(os.environ.get({STEPS_VARIABLE!r}, "0"))
done = 0

def dying(saver, stop):
    global done
    result = after_step(saver, stop)
    done += 1
    if done == steps:
        saver.finish()
        os.kill(os.getpid(), signal.SIGKILL)
    return result

Saver.after_step = dying
"""


def run(world: chaos.World, output: Path, processes: int, overrides: list[str], steps: int = 0) -> int:
    """One training, killed after `steps` steps; 0 to its end. Returns the exit status."""
    overrides = [*COMMON, *overrides, "Global.plugins=[tiny_plugin, killer]"]
    if processes == 1:
        status, said = world.run(output, *overrides, before=lambda: os.environ.update({STEPS_VARIABLE: str(steps)}))
    else:
        paths = os.pathsep.join(str(path) for path in (ROOT, ROOT / "tests", world.folder))
        done = subprocess.run(
            [
                sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", str(processes),
                "--log_dir", str(world.folder / "log"), str(ROOT / "tools" / "train.py"),
                *world.arguments(output, *overrides)[1:], "DataLoader.Train.sampler.batch_size=2",
            ],
            env={**os.environ, "PYTHONPATH": paths, STEPS_VARIABLE: str(steps)}, cwd=world.folder, capture_output=True,
        )  # fmt: skip
        status = -signal.SIGKILL if steps and done.returncode else done.returncode
        said = done.stdout.decode() + (world.folder / "log" / "workerlog.0").read_text()
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"{overrides}: {said[-4000:]}")
    return status


def compare(world: chaos.World, number: int, processes: int, overrides: list[str]) -> tuple[int, list[str]]:
    """How often the second training was killed, and where it differs."""
    whole, parts, kills = world.output(f"whole_{number}"), world.output(f"parts_{number}"), 0
    run(world, whole, processes, overrides)
    while run(world, parts, processes, overrides, steps=1 if processes == 1 else 4):
        kills += 1
    found = []
    for manifest in sorted(whole.glob("*.manifest.json")):
        name = manifest.name[: -len(".manifest.json")]
        found += [f"{name}{d}" for d in differences(training_state(whole / name), training_state(parts / name))]
    return kills, found


def main() -> None:
    only = sys.argv[1:]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="resume_matrix") as folder:
        world = chaos.World(Path(folder), epochs=3)
        (Path(folder) / "killer.py").write_text(_KILLER)
        sys.path.insert(0, folder)
        print(f"Paddle {paddle.__version__}, NumPy {np.__version__}\n")
        print("| training of 15 steps | processes | killed and resumed | equal to the last bit |\n|---|---|---|---|")
        for number, (name, processes, overrides) in enumerate(OPTIONS):
            if only and not any(word in name for word in only):
                continue
            kills, found = compare(world, number, processes, overrides)
            print(
                f"| {name} | {processes} | {kills} times | {'yes' if not found else f'no: {found[:4]}'} |", flush=True
            )
    print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
