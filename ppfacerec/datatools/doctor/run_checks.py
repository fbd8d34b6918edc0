"""Checks of the run: learning rate, memory, processes."""

import os
import shutil
from collections.abc import Iterator

from ppfacerec.config import Config
from ppfacerec.core.device.runtime import device_problem
from ppfacerec.core.image_size import IMAGE_SHAPE
from ppfacerec.data.loading.parallel import usable_cores
from ppfacerec.datatools.doctor.findings import Finding, finding

# Usual learning rate for a total batch of 1024 (PaddleClas's AdamW, insightface's SGD with momentum in arcface_torch),
# and exponent of its scaling with the batch: 1 for SGD (Goyal et al., arXiv:1706.02677), 1/2 for Adam (Malladi et al.,
# arXiv:2205.10287).
_USUAL = {"AdamW": (4e-3, 0.5), "Adam": (4e-3, 0.5), "Momentum": (0.1, 1.0), "SGD": (0.1, 1.0)}
_USUAL_BATCH = 1024
_FAR = 4.0  # times the usual rate; PaddleClas's own on one GPU is 2.8 times
_SHM_FOR_NCCL = 1 << 30


def check_run(config: Config, num_images: int, num_processes: int) -> Iterator[Finding]:
    """Check the settings of a run of `num_processes` on `num_images` against this machine."""
    problem = device_problem(config.Global.device)
    yield finding("device", "error" if problem else "ok", problem or f"Global.device: {config.Global.device}.")
    section = config.DataLoader.Train
    assert section is not None, "checked by load_config"
    batch_size = section.sampler.kwargs["batch_size"]
    total = batch_size * num_processes * config.Global.update_freq
    yield from _check_rate(config, total)
    if total > num_images:
        yield finding("batch", "error", f"The total batch of {total} is larger than the training set of {num_images}.")
    workers, cores = section.loader.num_workers * num_processes, usable_cores()
    yield finding(
        "workers", "warning" if workers > cores else "ok",
        f"{workers} data workers on {cores} cores"
        + ("; those beyond the cores only wait." if workers > cores else "."),
    )  # fmt: skip
    slots = (section.loader.num_workers * section.loader.prefetch_factor + 1) * num_processes
    memory = slots * batch_size * IMAGE_SHAPE[0] * IMAGE_SHAPE[1] * IMAGE_SHAPE[2]
    available = _available_memory()
    yield finding(
        "memory", "error" if memory > available else "ok",
        f"Prefetched batches take {memory / 2**20:.0f} MiB; {available / 2**30:.1f} GiB of memory are free.",
    )  # fmt: skip
    if num_processes > 1 and os.path.isdir("/dev/shm"):
        size = shutil.disk_usage("/dev/shm").total
        small = size < _SHM_FOR_NCCL
        yield finding(
            "/dev/shm", "warning" if small else "ok",
            f"{size / 2**20:.0f} MiB. The data workers do not need it, NCCL does"
            + ("; in Docker: --shm-size=2g or --ipc=host." if small else "."),
        )  # fmt: skip


def _check_rate(config: Config, total: int) -> Iterator[Finding]:
    section = config.Optimizer
    if section is None or section.spec.name not in _USUAL or "learning_rate" not in section.lr.kwargs:
        return
    usual_rate, power = _USUAL[section.spec.name]
    base = section.lr.kwargs.get("base_batch_size")
    rate = section.lr.kwargs["learning_rate"] * (total / base if base else 1)
    usual = usual_rate * (total / _USUAL_BATCH) ** power
    far = not 1 / _FAR <= rate / usual <= _FAR
    yield finding(
        "learning rate", "warning" if far else "ok",
        f"{rate:g} with {section.spec.name} for a total batch of {total}; usual is about {usual:.1g}"
        + (f", this is {rate / usual:.2g} times that" if far else "")
        + (" (Optimizer.lr.base_batch_size scales it with the batch)." if far else "."),
    )  # fmt: skip


def _available_memory() -> int:
    """Return available memory in bytes, with reclaimable caches and within the container's limit."""
    limits = []
    if os.path.exists("/proc/meminfo"):
        with open("/proc/meminfo") as file:
            limits += [int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if os.path.exists(path):
            with open(path) as file:
                text = file.read().strip()
            limits += [int(text)] if text.isdigit() else []
    return min(limits, default=1 << 62)
