"""``ppfacerec train`` and ``eval``."""

import argparse
from pathlib import Path

from ppfacerec.cli.parser import EXIT_STOPPED
from ppfacerec.config import ConfigError, load_config
from ppfacerec.config.docs import keys_page
from ppfacerec.core import distributed
from ppfacerec.core.log import logger
from ppfacerec.engine import Engine, TrainingStopped, find_config_beside


def train(arguments: argparse.Namespace) -> int:
    if arguments.help_keys:
        print(keys_page(arguments.help_keys))
        return 0
    if not arguments.config:
        raise ConfigError(["give a config with -c, for example -c configs/quickstart.yaml."], "the command")
    with distributed.exchange_failures():
        with distributed.failing_together():
            config, notes = load_config(arguments.config, arguments.override, "train")
        try:
            Engine(config, notes).train()
        except TrainingStopped:
            latest = Path(config.Global.output_dir) / "latest"
            logger.info("Stopped; resume with -o Global.checkpoints=%s (or auto)", latest)
            return EXIT_STOPPED
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    chosen = (("Global.report=True", arguments.report), ("Global.report_faces=False", arguments.no_faces))
    overrides = [*arguments.override, *(override for override, is_chosen in chosen if is_chosen)]
    with distributed.exchange_failures():
        with distributed.failing_together():
            source = arguments.config or find_config_beside(overrides)
            config, notes = load_config(source, overrides, "eval", is_named=bool(arguments.config))
        Engine(config, notes).evaluate()
    return 0
