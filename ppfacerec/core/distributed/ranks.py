"""Rank and world size of this process, from the variables of ``paddle.distributed.launch``."""

import os
import socket


def rank() -> int:
    return int(os.environ.get("PADDLE_TRAINER_ID", "0"))


def world_size() -> int:
    return int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))


def shares_of_batches(num_items: int, batch_size: int) -> list[list[range]]:
    """Return the batches of each rank: the same batches for any world size, so that embeddings are bitwise equal."""
    batches = [range(start, min(start + batch_size, num_items)) for start in range(0, num_items, batch_size)]
    bounds = [len(batches) * number // world_size() for number in range(world_size() + 1)]
    return [batches[first:last] for first, last in zip(bounds, bounds[1:])]


def refuse_lone_slurm_tasks() -> None:
    """Raise a ValueError if SLURM has started several tasks that are not connected."""
    task = os.environ.get("SLURM_PROCID", "0")
    # A batch script is task 0 and has the job's SLURM_NTASKS; only srun sets the number of a step's tasks.
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS" if task == "0" else "SLURM_NTASKS", "1")
    if world_size() == 1 and tasks.isdigit() and int(tasks) > 1:
        raise ValueError(
            f"SLURM has started {tasks} tasks (task {task} here), but they are not connected: each would train alone. "
            "Start one launcher per machine, srun --ntasks-per-node=1 python -m paddle.distributed.launch --master "
            "ADDRESS:PORT --nnodes $SLURM_NNODES --rank $SLURM_NODEID ... (docs/distributed.md has a complete job "
            "script); or one task, srun --ntasks=1."
        )


def refuse_loopback_name() -> None:
    """Raise a ValueError if gloo would send a loopback address, such as 127.0.1.1 for the host name on Debian."""
    name = socket.gethostname()
    try:
        addresses = sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None)})
    except OSError:
        addresses = []  # then gloo uses 127.0.0.1
    is_local = all(address.startswith("127.") or address == "::1" for address in addresses)
    if is_local and not os.environ.get("GLOO_SOCKET_IFNAME"):
        raise ValueError(
            f"{name}, this machine's name, is {' and '.join(addresses) or 'unknown'} here (/etc/hosts), so other "
            "machines' processes would look for this one on their own machine. Give the name its real address, or set "
            "GLOO_SOCKET_IFNAME to the network interface, such as eth0 (`ip -brief address` lists them), before the "
            "launcher starts."
        )
