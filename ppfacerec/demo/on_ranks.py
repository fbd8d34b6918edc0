"""Demo data of a config on several processes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from ppfacerec.core import distributed
from ppfacerec.demo.demo_faces import make_demo_data


def make_demo_data_on_each_disk(settings: Optional[Mapping[str, Any]]) -> None:
    """Make the data of ``Global.demo_data``, if set, once on every disk. All ranks call it."""
    if not settings:
        return
    disks = distributed.find_disks(Path(settings["root"]).parent)
    with distributed.failing_together():
        if disks.is_leader:
            make_demo_data(**settings)
