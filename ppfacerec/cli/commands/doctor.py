"""``ppfacerec doctor`` and ``show-batch``: inspect the data of a training."""

import argparse

from ppfacerec.config import load_config
from ppfacerec.core import distributed
from ppfacerec.core.log import logger
from ppfacerec.core.ranges import require_count
from ppfacerec.data.loading.parallel import usable_cores
from ppfacerec.datatools.batch_grid import write_grid
from ppfacerec.datatools.doctor import as_json, as_table, examine_config, examine_folder, read_tests


def doctor(arguments: argparse.Namespace) -> int:
    if bool(arguments.folder) == bool(arguments.config):
        raise ValueError("Give a folder, or a config with -c: ppfacerec doctor -c configs/quickstart.yaml")
    require_count("--max-images", arguments.max_images)
    require_count("--gpus", arguments.gpus)
    if arguments.json:
        logger.setLevel("ERROR")  # nothing but JSON on the terminal
    processes, tests = arguments.processes or usable_cores(), read_tests(arguments.test)
    with distributed.exchange_failures():
        distributed.init()  # the ranks of a launcher share the images to embed
        if arguments.config:
            config, _ = load_config(arguments.config, arguments.override, "train")
            found = list(examine_config(config, arguments.max_images, processes, tests, arguments.gpus))
        else:
            found = list(examine_folder(arguments.folder, arguments.max_images, processes, tests))
    if distributed.rank() == 0:
        print(as_json(found) if arguments.json else as_table(found))
    return int(any(one.level == "error" for one in found))


def show_batch(arguments: argparse.Namespace) -> int:
    config, _ = load_config(arguments.config, arguments.override, "train")
    write_grid(config, arguments.out, arguments.columns, arguments.rows)
    logger.info(
        "Written: %s: above, %d samples as stored; below, as the network receives them in %d epochs.",
        arguments.out, arguments.columns, arguments.rows,
    )  # fmt: skip
    return 0
