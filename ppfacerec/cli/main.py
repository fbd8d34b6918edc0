"""Entry point of ``ppfacerec train | eval | ...``; tools/*.py call the same functions."""

import argparse
import os
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from ppfacerec.cli.arguments import COMMANDS
from ppfacerec.cli.parser import Parser, first_command
from ppfacerec.core import log
from ppfacerec.core.device.cpu_tuning import tune_cpu
from ppfacerec.core.environment import check_environment
from ppfacerec.core.registry import near_match
from ppfacerec.core.version import __version__

EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
_NO_PROFILER = (
    "-p (--profiler_options) is a PaddleClas option; ppfacerec has no profiler: train.csv has the time of every step "
    "and of waiting for data (batch_cost, reader_cost), and paddle.profiler or py-spy can profile a run from outside."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``ppfacerec`` with its subcommands and return the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = Parser(prog="ppfacerec", description="Train and evaluate face recognition networks.")
    parser.add_argument("--version", action="version", version=f"ppfacerec {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(name, help=command.help, description=command.help)
        subparser.set_defaults(
            run=command.run, needs_paddle=command.needs_paddle, splits=command.splits, parser=subparser
        )
        for add in command.arguments:
            add(subparser)
    name = first_command(given)
    if name and name not in COMMANDS:
        parser.error(f"unknown command '{name}'{near_match(name, COMMANDS)} `ppfacerec` alone lists all")
    parsed, unknown = parser.parse_known_args(given)
    if not parsed.command:
        parser.print_help()
        return EXIT_USAGE
    if unknown:
        parsed.parser.refuse(unknown)
    return _guarded(parsed)


def tool(command: str) -> int:
    """Run one subcommand as a separate program (tools/train.py)."""
    return main([command, *sys.argv[1:]])


def _guarded(arguments: argparse.Namespace) -> int:
    """Run a command; report a user's mistake as a message instead of a traceback."""
    # Must be set before paddle is imported; otherwise glog and a ccache hint flood the log.
    os.environ.setdefault("GLOG_minloglevel", "2")
    warnings.filterwarnings("ignore", message="No ccache found")
    warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
    log.setup_logging(int(os.environ.get("PADDLE_TRAINER_ID", "0")))
    if getattr(arguments, "embeddings", None):  # of `eval`, which then needs NumPy only
        arguments.run, arguments.needs_paddle, arguments.splits = "embeddings:evaluate", False, False
    try:
        if getattr(arguments, "profiler_options", None):
            raise ValueError(_NO_PROFILER)
        if arguments.needs_paddle:
            check_environment()
            tune_cpu()
        if os.environ.get("PADDLE_TRAINERS_NUM", "1") != "1" and not arguments.splits:
            if os.environ.get("PADDLE_TRAINER_ID", "0") != "0":
                return 0
            log.logger.info("This command does not split its work over processes: rank 0 does all of it.")
            os.environ["PADDLE_TRAINERS_NUM"] = "1"
        module, _, function = arguments.run.partition(":")
        return int(getattr(import_module(f"ppfacerec.cli.commands.{module}"), function)(arguments))
    except KeyboardInterrupt:
        log.logger.error("Interrupted.")
        return EXIT_INTERRUPTED
    except (ValueError, ImportError, OSError) as error:  # OSError: a full disk, no permission
        if os.environ.get("PPFACEREC_TRACEBACK"):
            traceback.print_exc()
        log.logger.error("%s%s", error, _place(error))
        return EXIT_ERROR


def _place(error: BaseException) -> str:
    """Return file and line of an error raised by a user's own code, such as a plugin's; "" for others."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    known = (str(Path(__file__).parents[1]), *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))
    is_own = Path(last.filename).is_absolute() and not any(Path(last.filename).is_relative_to(path) for path in known)
    return f" ({last.filename}, line {last.lineno}; PPFACEREC_TRACEBACK=1 shows more)" if is_own else ""
