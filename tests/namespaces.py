"""Machines made of Linux namespaces: each has a network address, a host name and a disk of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Optional

_ENTER = 'hostname "$0" && mount --bind "$1" "$2" && mount --bind "$3" /etc/hosts && cd "$2" && shift 3 && exec "$@"'


class Hosts:
    """Two machines, alpha and beta, with a cable between them. A ``with`` around their use removes them.

    Args:
        root: for the place of their disks; what a machine writes to `disk` is in its folder outside.
        folders: the disk of each.
    """

    names = ("alpha", "beta")

    def __init__(self, root: Path, folders: list[Path]) -> None:
        self.disk, self._hosts = root / "disk", root / "hosts"
        self.disk.mkdir()
        self.addresses = [f"10.77.0.{number}" for number in (1, 2)]
        lines = [f"{address} {name}\n" for address, name in zip(self.addresses, self.names)]
        self._hosts.write_text("".join(["127.0.0.1 localhost\n", *lines]))
        self._folders = folders
        self._spaces = [f"ppf-{os.getpid()}-{name}" for name in self.names]

    def __enter__(self) -> Hosts:
        first, second = self._spaces
        for space in self._spaces:
            _ip(f"netns add {space}")
        _ip(f"link add cable netns {first} type veth peer name cable netns {second}")
        for space, address in zip(self._spaces, self.addresses):
            _ip(f"-n {space} addr add {address}/24 dev cable")
            for device in ("lo", "cable"):
                _ip(f"-n {space} link set {device} up")
        return self

    def __exit__(self, *exception: object) -> None:
        for space in self._spaces:
            _ip(f"netns del {space}")

    def prefix(self, number: int) -> list[str]:
        """What a command starts with to run on a machine, in its disk."""
        paths = [str(path) for path in (self._folders[number], self.disk, self._hosts)]
        return ["ip", "netns", "exec", self._spaces[number], "unshare", "--uts", "--mount",
                "sh", "-c", _ENTER, self.names[number], *paths]  # fmt: skip


def why_not() -> Optional[str]:
    """Why there can be none here, or None."""
    if os.geteuid() != 0:
        return "namespaces need root"
    if not all(map(shutil.which, ("ip", "unshare"))):
        return "namespaces need iproute2 and util-linux"
    tried = subprocess.run(["unshare", "--net", "--uts", "--mount", "true"], capture_output=True, text=True)
    return f"namespaces cannot be made here: {tried.stderr.strip()}" if tried.returncode else None


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True)
