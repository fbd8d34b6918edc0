"""Kills trainings at random moments, and does worse to them; what comes out must be the very same model.

    python tests/chaos.py --kills 50

Each training is a process of its own, forked from this one, which has imported Paddle already, so that a start takes
tenths of a second. `--only kills` etc. runs one part; `--seed` draws other moments.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
os.environ.setdefault("GLOG_minloglevel", "2")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import tiny_plugin  # noqa: E402, F401 (imports Paddle once, for all)
from launching import Launcher  # noqa: E402
from training_state import differences, training_state  # noqa: E402

from ppfacerec import cli  # noqa: E402
from ppfacerec.config import load_config  # noqa: E402
from ppfacerec.engine import Engine  # noqa: E402, F401 (as above)
from ppfacerec.training.checkpoints.files.checkpoint_files import NUMBERED  # noqa: E402

ROOT = Path(__file__).parents[1]
FORK = multiprocessing.get_context("fork")
TIMEOUT = 240.0
SUFFIXES = (".manifest.json", ".pdopt", ".pdparams", ".pdstates")
LEFT_OVER = (".new", ".tmp", ".removed.json", "run.lock")


class World:
    """A data set, a config, and how long the training is.

    Args:
        folder: of everything.
        epochs: of 5 steps each.
        workers: data workers of the training.
    """

    def __init__(self, folder: Path, epochs: int, workers: int = 0) -> None:
        from conftest import TINY_NET, tiny_tree, write_pairs, write_training_set

        self.folder, self.epochs = folder, epochs
        data = folder / "data"
        if not data.exists():
            write_training_set(data, num_identities=5, images_each=4)
            write_pairs(data / "lfw.bin", 20, first_identity=1000)
        tree = tiny_tree(data, folder / "output")
        tree["Global"] |= {
            "plugins": TINY_NET["Global.plugins"], "epochs": epochs, "checkpoints": "auto", "save_interval": 5,
            "save_interval_steps": 3, "keep_last": 2, "eval_interval": 10, "eval_backend": "eager",
        }  # fmt: skip
        tree["Arch"] = {"Backbone": TINY_NET["Arch.Backbone"], "Head": TINY_NET["Arch.Head"] | {"class_num": 4000}}
        tree["EMA"] = {"decay": 0.9}
        tree["DataLoader"]["Train"]["loader"] = {"num_workers": workers}
        tree["DataLoader"]["Eval"]["dataset"]["val_targets"] = ["lfw"]
        self.config = folder / "config.yaml"
        self.config.write_text(json.dumps(tree))

    def output(self, name: str) -> Path:
        return self.folder / name

    def arguments(self, output: Path, *overrides: str) -> list[str]:
        return ["train", "-c", str(self.config), "-o", f"Global.output_dir={output}", *overrides]

    def start(self, output: Path, *overrides: str, before: Optional[Callable[[], None]] = None) -> Any:
        """A forked training; its words go to `log_of` the output folder."""
        process = FORK.Process(target=_train, args=(self.arguments(output, *overrides), self.log_of(output), before))
        process.start()
        return process

    def log_of(self, output: Path) -> Path:
        return self.folder / f"{output.name}.out"

    def run(self, output: Path, *overrides: str, before: Optional[Callable[[], None]] = None) -> tuple[int, str]:
        """A training to its end: exit status, and what it said."""
        log = self.log_of(output)
        log.unlink(missing_ok=True)
        process = self.start(output, *overrides, before=before)
        process.join(TIMEOUT)
        assert process.exitcode is not None, f"still running: {log.read_text()[-2000:]}"
        return process.exitcode, log.read_text()


def _train(arguments: list[str], log: Path, before: Optional[Callable[[], None]]) -> None:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    if before:
        before()
    status = cli.main(arguments)
    sys.stdout.flush()
    os._exit(status)  # without the parent's own goodbyes


def check(condition: bool, message: str) -> None:
    if not condition:
        raise SystemExit(f"FAILED: {message}")


def check_same(world: World, reference: Path, output: Path, what: str) -> None:
    """The last checkpoint and the best model are those of the undisturbed run, and nothing else lies about."""
    for name in ("latest", "best_model", f"epoch_{world.epochs}"):
        found = differences(training_state(reference / name), training_state(output / name))
        check(not found, f"{what}: {name} differs in {found[:5]}")
    one, other = ({path.name for path in folder.iterdir()} for folder in (reference, output))
    left = {name for name in other if name.endswith(LEFT_OVER) or name.startswith(".")}
    check(not left, f"{what}: left over {sorted(left)}")
    extra = {name.split(".")[0] for name in other - one}
    # What the last start went on from is never removed.
    check(len(extra) <= 1 and all(NUMBERED.fullmatch(name) for name in extra), f"{what}: too much: {sorted(extra)}")
    check(one <= other, f"{what}: missing {sorted(one - other)}")
    rows = [(folder / "train.csv").read_text().splitlines() for folder in (reference, output)]
    losses = [[row.split(",")[:6] for row in lines] for lines in rows]
    check(losses[0] == losses[1], f"{what}: train.csv differs")


def kills(world: World, reference: Path, count: int, rng: random.Random) -> Counter[str]:
    """kill -9 at random moments until `count` have hit, in as many whole trainings as that takes."""
    counts: Counter[str] = Counter()
    number = 0
    while counts["kills"] < count:
        number += 1
        output = world.output(f"killed_{number}")
        while True:
            log = world.log_of(output)
            log.unlink(missing_ok=True)
            process = world.start(output)
            moment = rng.choice(["in a save", "in a save", "in training", "at the start"])
            if counts["kills"] < count and _killed(process, output, moment, rng):
                counts["kills"] += 1
                counts[moment] += 1
                _look(output, counts)
                continue
            process.join(TIMEOUT)
            check(process.exitcode == 0, f"a resumed run ended with {process.exitcode}: {log.read_text()[-3000:]}")
            break
        counts["trainings"] += 1
        check_same(world, reference, output, f"after kills, training {number}")
        shutil.rmtree(output)
    return counts


def _killed(process: Any, output: Path, moment: str, rng: random.Random) -> bool:
    """Kill a process at a moment of some kind; False where it ended before."""
    if moment == "at the start":
        time.sleep(rng.uniform(0, 0.8))
    else:
        begun = f"{output}/train.csv"
        size = os.path.getsize(begun) if os.path.exists(begun) else 0
        while process.is_alive() and (not os.path.exists(begun) or os.path.getsize(begun) == size):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.4))
        while moment == "in a save" and process.is_alive() and not list(output.glob("*.new")):
            pass
        time.sleep(rng.choice([0, rng.uniform(0, 0.02)]))
    alive = process.is_alive()
    process.kill()
    process.join()
    return alive


def _look(output: Path, counts: Counter[str]) -> None:
    """What the kill has left: files that do not count yet, or a checkpoint that counts and lacks a rename."""
    if not output.exists():
        return
    names = {path.name for path in output.iterdir()}
    new = {name for name in names if name.endswith(".new")}
    counts["left .new files"] += bool(new)
    counts["left a manifest.new"] += any(name.endswith(".manifest.json.new") for name in new)
    prefixes = {name.split(".")[0] for name in new}
    counts["left a commit half done"] += any(
        f"{prefix}.manifest.json" in names and 0 < sum(f"{prefix}{s}.new" in names for s in SUFFIXES[1:]) < 3
        for prefix in prefixes
    )
    counts["left a removal half done"] += any(name.endswith(".removed.json") for name in names)


def damage(world: World, reference: Path, count: int, rng: random.Random) -> Counter[str]:
    """A file of the newest checkpoint is truncated or has a bit flipped: it is named, and the one before is used."""
    counts: Counter[str] = Counter()
    for number in range(count):
        output = world.output(f"damaged_{number}")
        _stop_in_the_middle(world, output, rng)
        newest = max(output.glob("*.manifest.json"), key=lambda path: json.loads(path.read_text())["saved_at"])
        victim = output / (newest.name[: -len(".manifest.json")] + rng.choice(SUFFIXES))
        how = rng.choice(["truncated", "a bit flipped", "removed"])
        content = bytearray(victim.read_bytes())
        if how == "truncated":
            victim.write_bytes(content[: rng.randrange(len(content))])
        elif how == "removed" and not victim.name.endswith(".manifest.json"):
            victim.unlink()
        else:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            victim.write_bytes(content)
        status, said = world.run(output)
        check(status == 0, f"{victim} {how}: {said[-2000:]}")
        check(str(victim) in said and "Resumed from" in said, f"{victim} {how} is not named: {said[:3000]}")
        check_same(world, reference, output, f"{victim.name} {how}")
        counts[how] += 1
        shutil.rmtree(output)
    return counts


def _stop_in_the_middle(world: World, output: Path, rng: random.Random) -> None:
    """Kill a training that has saved some checkpoints already."""
    process = world.start(output)
    while process.is_alive() and len(list(output.glob("step_*.manifest.json"))) < 2:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.2))
    process.kill()
    process.join()
    world.run(output, before=_stop_soon)  # which cleans up: the files of a kill are another part's matter


def _stop_soon() -> None:
    """Ask the training of this process to stop after its next step."""
    from ppfacerec.training.stop_signals import StopSignals

    enter = StopSignals.__enter__

    def stopped(self: StopSignals) -> StopSignals:
        enter(self)
        self.wants_stop = True
        return self

    StopSignals.__enter__ = stopped  # type: ignore[method-assign]


def signals(world: World, reference: Path, count: int, rng: random.Random) -> Counter[str]:
    """SIGTERM and SIGINT at random moments: status 75, `latest` is saved, and it goes on to the same model."""
    counts: Counter[str] = Counter()
    output = world.output("signalled")
    while True:
        log = world.log_of(output)
        log.unlink(missing_ok=True)
        process = world.start(output)
        number = rng.choice([signal.SIGTERM, signal.SIGINT])
        while process.is_alive() and "[Train]" not in (log.read_text() if log.exists() else ""):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        if counts["signals"] < count and process.is_alive():
            os.kill(process.pid, number)
        process.join(TIMEOUT)
        if process.exitcode == 0:
            break
        said = log.read_text()
        check(process.exitcode == 75 and "Stopped; resume with" in said, f"{number}: {process.exitcode} {said[-2000:]}")
        counts["signals"] += 1
        counts[number.name] += 1
    check_same(world, reference, output, "after signals")
    shutil.rmtree(output)
    return counts


def disk_full(world: World, reference: Path, count: int, rng: random.Random) -> Counter[str]:
    """The disk is full before a save, or becomes full in it: the run says so, and goes on when there is room."""
    counts: Counter[str] = Counter()
    for number in range(count):
        output = world.output(f"full_{number}")
        # A limit to a file's size stands for a quota: the system refuses in the middle of a file.
        limit = rng.randrange(20_000, 400_000)
        status, said = world.run(output, before=lambda limit=limit: _limit_files(limit))
        check(status == 1, f"files limited to {limit} bytes: status {status}, {said[-2000:]}")
        check("cannot be saved: it needs" in said and "no more is available" in said, said[-2000:])
        _check_no_new(output)
        status, said = world.run(output)
        check(status == 0, said[-2000:])
        check_same(world, reference, output, "after a limit")
        shutil.rmtree(output)
        counts["refused in a file"] += 1
    with _small_disk(world.folder / "small_disk", 12 << 20) as disk:
        if disk is None:
            counts["small disk (not allowed to mount)"] = 0
            return counts
        for number in range(count):
            output, ballast = disk / f"run_{number}", disk / "ballast"
            ballast.write_bytes(bytes(rng.randrange(8 << 20, 11 << 20)))
            status, said = world.run(output)
            check(status == 1, f"full disk: status {status}, {said[-2000:]}")
            check("cannot be saved: it needs" in said, said[-2000:])
            counts["free space asked for" if "are free in" in said else "full in a file"] += 1
            _check_no_new(output)
            ballast.unlink()
            status, said = world.run(output)
            check(status == 0, said[-2000:])
            check_same(world, reference, output, "after a full disk")
            shutil.rmtree(output)
    return counts


def _limit_files(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def _check_no_new(output: Path) -> None:
    left = [path.name for path in output.iterdir() if path.name.endswith(".new")]
    check(not left, f"left over after an error: {left}")


@contextmanager
def _small_disk(folder: Path, size: int, options: str = "") -> Iterator[Optional[Path]]:
    """A disk of its own in memory, where mounting is allowed; else None."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def read_only(world: World) -> Counter[str]:
    """An output folder that cannot be written to is told before anything else."""
    status, said = world.run(Path("/sys/kernel/ppfacerec_output"))
    check(status == 1, f"read-only: {status} {said[-2000:]}")
    check("Global.output_dir: /sys/kernel/ppfacerec_output cannot be written to" in said, said[-2000:])
    counts = Counter({"a folder that cannot be made": 1})
    with _small_disk(world.folder / "read_only", 1 << 20, ",ro") as disk:
        if disk is not None:
            status, said = world.run(disk)
            check(status == 1 and f"Global.output_dir: {disk} cannot be written to (Read-only" in said, said[-2000:])
            counts["a disk mounted read-only"] = 1
    return counts


def two_runs(world: World, reference: Path) -> Counter[str]:
    """A second run in an output folder is refused with the first one's process; the first goes on."""
    output = world.output("shared")
    first = world.start(output)
    while not (output / "train.csv").exists():
        time.sleep(0.01)
    other = output.with_name("second")
    process = FORK.Process(target=_train, args=(world.arguments(output), world.log_of(other), None))
    process.start()
    process.join(TIMEOUT)
    said = world.log_of(other).read_text()
    check(process.exitcode == 1, f"the second run ended with {process.exitcode}: {said[-2000:]}")
    check(f"in use by another run, process {first.pid} on {socket.gethostname()}" in said, said[-2000:])
    first.join(TIMEOUT)
    check(first.exitcode == 0, "the first run failed")
    check_same(world, reference, output, "with a second run beside")
    return Counter({"second run refused": 1})


def two_ranks(world: World, count: int, rng: random.Random) -> Counter[str]:
    """kill -9 of one process of two: all end, and it goes on to the same model as undisturbed two processes."""
    counts: Counter[str] = Counter()
    reference = world.output("two_whole")
    check(_launch(world, reference).wait(TIMEOUT) == 0, "two processes undisturbed")
    output = world.output("two_killed")
    while True:
        launcher = _launch(world, output)
        if counts["kills of one of two"] < count:
            before = _size(output / "train.csv")
            while launcher.poll() is None and _size(output / "train.csv") == before:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 1.0))
            rank = counts["kills of one of two"] % 2
            pid = _rank_pid(launcher.pid, rank)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                began = time.monotonic()
                check(launcher.wait(90) != 0, "the launcher did not notice")
                counts["kills of one of two"] += 1
                counts[f"rank {rank}"] += 1
                counts["longest wait for the other, s"] = max(
                    counts["longest wait for the other, s"], round(time.monotonic() - began)
                )
                continue
        check(launcher.wait(TIMEOUT) == 0, "two processes resumed")
        break
    check_same(world, reference, output, "after kills of one rank")
    return counts


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _launch(world: World, output: Path) -> Launcher:
    return Launcher(
        "--nproc_per_node", "2", "--log_dir", str(world.folder / f"log_{output.name}"), str(ROOT / "tools" / "train.py"),
        *world.arguments(output)[1:], "DataLoader.Train.sampler.batch_size=2", cwd=world.folder,
    )  # fmt: skip


def _rank_pid(launcher: int, rank: int) -> Optional[int]:
    import psutil

    try:
        for child in psutil.Process(launcher).children():
            if child.environ().get("PADDLE_TRAINER_ID") == str(rank):
                return child.pid
    except psutil.Error:
        pass
    return None


PARTS = ("kills", "kills with workers", "signals", "damage", "disk full", "read-only", "two runs", "two ranks")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="kills of one process, half as many with data workers")
    parser.add_argument("--others", type=int, default=5, help="repetitions of the other parts")
    parser.add_argument("--epochs", type=int, default=40, help="of 5 steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    rng, began = random.Random(options.seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos") as name:
        world, reference = World(Path(name), options.epochs), Path(name) / "whole"
        load_config(world.config, mode="train")
        status, said = world.run(reference)
        check(status == 0, said[-3000:])
        run: dict[str, Callable[[], Counter[str]]] = {
            "kills": lambda: kills(world, reference, options.kills, rng),
            "kills with workers": lambda: kills(
                World(Path(name), options.epochs, workers=2), reference, -(-options.kills // 2), rng
            ),
            "signals": lambda: signals(world, reference, options.others, rng),
            "damage": lambda: damage(world, reference, options.others, rng),
            "disk full": lambda: disk_full(world, reference, options.others, rng),
            "read-only": lambda: read_only(world),
            "two runs": lambda: two_runs(world, reference),
            "two ranks": lambda: two_ranks(world, options.others, rng),
        }
        for part in options.only:
            started = time.monotonic()
            counts = run[part]()
            told = ", ".join(f"{what}: {number}" for what, number in counts.items())
            print(f"{part}: equal to the undisturbed run; {told} ({time.monotonic() - started:.0f} s)", flush=True)
            World(Path(name), options.epochs)  # the config without workers again
    print(f"passed in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
