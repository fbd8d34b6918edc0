"""The command line: ``ppfacerec train | eval | convert-weights | ...``; tools/*.py call the same functions."""

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from ppfacerec import __version__
from ppfacerec.cli import data, export, infer, planning, weights
from ppfacerec.cli.parser import Parser, config_arguments, first_command
from ppfacerec.core import log
from ppfacerec.core.device.cpu_tuning import tune_cpu
from ppfacerec.core.environment import check_environment
from ppfacerec.core.registry import near_match

EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: training was asked to stop and has saved; start it again to go on


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``ppfacerec`` with its subcommands; return the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = Parser(prog="ppfacerec", description="Train and evaluate face recognition networks.")
    parser.add_argument("--version", action="version", version=f"ppfacerec {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (help_text, add_arguments, run) in _COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=help_text)
        add_arguments(command)
        command.set_defaults(run=run, parser=command)
    name = first_command(given)
    if name and name not in _COMMANDS:
        parser.error(f"unknown command '{name}'{near_match(name, _COMMANDS)} `ppfacerec` alone lists them all")
    parsed, unknown = parser.parse_known_args(given)
    if not parsed.command:
        parser.print_help()
        return EXIT_USAGE
    if unknown:
        parsed.parser.refuse(unknown)
    return _guarded(parsed.run, parsed)


def tool(command: str) -> int:
    """Run one subcommand as a program of its own (tools/train.py)."""
    return main([command, *sys.argv[1:]])


def _guarded(run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Show a user's mistake as a message, not as a traceback."""
    # Must stand before paddle is imported: without it glog and a ccache hint drown the log.
    os.environ.setdefault("GLOG_minloglevel", "2")
    warnings.filterwarnings("ignore", message="No ccache found")
    warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
    log.setup_logging(int(os.environ.get("PADDLE_TRAINER_ID", "0")))
    try:
        if getattr(arguments, "profiler_options", None):
            raise ValueError(_NO_PROFILER)
        if arguments.command not in _WITHOUT_PADDLE and not getattr(arguments, "embeddings", None):
            check_environment()
            tune_cpu()
        if os.environ.get("PADDLE_TRAINERS_NUM", "1") != "1" and not _splits(arguments):
            if os.environ.get("PADDLE_TRAINER_ID", "0") != "0":
                return 0
            log.logger.info("This command does not split its work over processes: one does all of it.")
            os.environ["PADDLE_TRAINERS_NUM"] = "1"
        return run(arguments)
    except KeyboardInterrupt:
        log.logger.error("Interrupted.")
        return EXIT_INTERRUPTED
    except (ValueError, ImportError, OSError) as error:  # OSError: a full disk, no permission
        if os.environ.get("PPFACEREC_TRACEBACK"):
            traceback.print_exc()
        log.logger.error("%s", error)
        return EXIT_ERROR


def _splits(arguments: argparse.Namespace) -> bool:
    """Whether the processes of a launcher share the work of a command."""
    if arguments.command == "infer":
        return bool(arguments.task == "embed")
    return arguments.command in ("train", "doctor") or (arguments.command == "eval" and not arguments.embeddings)


def _train(arguments: argparse.Namespace) -> int:
    from ppfacerec.config import ConfigError, load_config
    from ppfacerec.core import distributed
    from ppfacerec.engine import Engine, TrainingStopped

    if arguments.help_keys:
        from ppfacerec.config.docs import keys_page

        print(keys_page(arguments.help_keys))
        return 0
    if not arguments.config:
        raise ConfigError(["give a config with -c, for example -c configs/quickstart.yaml."], "the command")
    with distributed.first_failure_first():
        with distributed.failing_together():
            config, notes = load_config(arguments.config, arguments.override, "train")
        try:
            Engine(config, notes).train()
        except TrainingStopped:
            latest = Path(config.Global.output_dir) / "latest"
            log.logger.info("Stopped; go on with -o Global.checkpoints=%s (or auto)", latest)
            return EXIT_STOPPED
    return 0


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument(
        "--help-keys", metavar="SECTION", help="print the keys of a section, such as Optimizer, and end"
    )


def _eval_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument(
        "--report", action="store_true",
        help="write output_dir/report/index.html with plots, thresholds and the hardest pairs; as Global.report=True",
    )  # fmt: skip
    parser.add_argument(
        "--no-faces", action="store_true",
        help="leave the pictures of faces out of the report; as Global.report_faces=False",
    )  # fmt: skip
    parser.add_argument(
        "--embeddings", metavar="FILE.npz", nargs="+",
        help="score embeddings made elsewhere (keys embeddings, is_same); no config and no weights are needed",
    )  # fmt: skip


def _eval(arguments: argparse.Namespace) -> int:
    if arguments.embeddings:
        return _eval_embeddings(arguments)
    from ppfacerec.config import load_config
    from ppfacerec.core import distributed
    from ppfacerec.engine import Engine, find_config_beside

    chosen = (("Global.report=True", arguments.report), ("Global.report_faces=False", arguments.no_faces))
    overrides = [*arguments.override, *(override for override, is_chosen in chosen if is_chosen)]
    with distributed.first_failure_first():
        with distributed.failing_together():
            source = arguments.config or find_config_beside(overrides)
            config, notes = load_config(source, overrides, "eval", is_named=bool(arguments.config))
        Engine(config, notes).evaluate()
    return 0


def _eval_embeddings(arguments: argparse.Namespace) -> int:
    """Score .npz files; eval.json and the report go to ``Global.output_dir``, by default ./output."""
    from ppfacerec.config import ConfigError, parse_yaml
    from ppfacerec.evaluation.embeddings_file import evaluate_files

    settings = {"Global.output_dir": "./output", "Global.report": arguments.report}
    for override in arguments.override:
        key, equals, text = override.partition("=")
        value, problems = parse_yaml(text, f"-o {override}")
        if problems or not equals or key not in settings or not isinstance(value, type(settings[key])):
            raise ConfigError(
                [f"-o {override}: with --embeddings there is only Global.output_dir=FOLDER and Global.report=True."],
                "the command",
            )
        settings[key] = value
    if arguments.config:
        raise ConfigError(["--embeddings needs no config; leave out -c."], "the command")
    evaluate_files(arguments.embeddings, Path(str(settings["Global.output_dir"])), bool(settings["Global.report"]))
    return 0


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    export.arguments(parser)


_COMMANDS = {
    "train": ("Train a network as a config says.", _train_arguments, _train),
    "eval": ("Evaluate weights, or embeddings made elsewhere, on verification sets.", _eval_arguments, _eval),
    "configs": ("List the configs that ship, or print one.", planning.configs_arguments, planning.configs),
    "plan": ("Estimate a run's memory and traffic before starting it.", planning.plan_arguments, planning.plan),
    "export": ("Write an inference model: Paddle Inference or ONNX.", _export_arguments, export.run),
    "infer": ("Embed, compare, search and group faces.", infer.arguments, infer.run),
    "convert-weights": ("Convert weights of other projects.", weights.convert_arguments, weights.convert),
    "convert-checkpoint": (
        "Make a checkpoint of ours one that PaddleClas goes on from.",
        weights.checkpoint_arguments,
        weights.convert_checkpoint,
    ),
    "models": ("List the published weights that are read here.", weights.no_arguments, weights.models),
    "demo-data": ("Draw synthetic faces to try it with.", planning.demo_data_arguments, planning.demo_data),
    **data.COMMANDS,
}

_WITHOUT_PADDLE = ("configs", "models", "convert", "make-bin", "align", "demo-data")
_NO_PROFILER = (
    "-p (--profiler_options) is PaddleClas's; there is no profiler here: train.csv has the time of every step and of "
    "waiting for data (batch_cost, reader_cost), and paddle.profiler or py-spy measure a run from outside."
)
