"""``ppfacerec eval --embeddings``: needs no Paddle."""

import argparse
from pathlib import Path

from ppfacerec.config import ConfigError, parse_yaml
from ppfacerec.evaluation.embeddings_file import evaluate_files


def evaluate(arguments: argparse.Namespace) -> int:
    """Score .npz files; eval.json and the report go to ``Global.output_dir``, by default ./output."""
    settings = {"Global.output_dir": "./output", "Global.report": arguments.report}
    for override in arguments.override:
        key, equals, text = override.partition("=")
        value, problems = parse_yaml(text, f"-o {override}")
        if problems or not equals or key not in settings or not isinstance(value, type(settings[key])):
            raise ConfigError(
                [f"-o {override}: with --embeddings, expected Global.output_dir=FOLDER or Global.report=True."],
                "the command",
            )
        settings[key] = value
    if arguments.config:
        raise ConfigError(["--embeddings needs no config; leave out -c."], "the command")
    evaluate_files(arguments.embeddings, Path(str(settings["Global.output_dir"])), bool(settings["Global.report"]))
    return 0
