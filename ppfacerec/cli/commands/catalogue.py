"""``ppfacerec configs`` and ``models``."""

import argparse

from ppfacerec.config import find_config, shipped_configs
from ppfacerec.core.log import table
from ppfacerec.weights.zoo import zoo_table


def configs(arguments: argparse.Namespace) -> int:
    if arguments.name:
        print(find_config(arguments.name).read_text(encoding="utf-8"), end="")
        return 0
    rows = [
        [name, path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")]
        for name, path in shipped_configs().items()
    ]
    print("\n".join(line.rstrip() for line in table(["config", "what it trains"], rows, left=2).splitlines()))
    return 0


def models(arguments: argparse.Namespace) -> int:
    print(zoo_table())
    return 0
