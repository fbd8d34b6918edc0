"""Shared by all commands: config options, defaults in the help, hints for unknown arguments."""

import argparse
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NoReturn

from ppfacerec.core.registry import near_match

EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: training stopped after saving a checkpoint; run it again to resume

Argument = Callable[[argparse.ArgumentParser], object]  # adds itself to a parser

# Options of other training programs -> config keys here.
_KEYS = {
    "batch_size": "DataLoader.Train.sampler.batch_size",
    "learning_rate": "Optimizer.lr.learning_rate",
    "lr": "Optimizer.lr.learning_rate",
    "num_workers": "DataLoader.Train.loader.num_workers",
    "workers": "DataLoader.Train.loader.num_workers",
    "resume": "Global.checkpoints",
}


class Help(argparse.HelpFormatter):
    """Help formatter that shows the non-empty defaults of options."""

    def _get_help_string(self, action: argparse.Action) -> str:
        shows = action.option_strings and action.default not in (None, False, "") and action.default != []
        shows = shows and action.default is not argparse.SUPPRESS
        return f"{action.help or ''}{' (default: %(default)s)' if shows else ''}"


class Parser(argparse.ArgumentParser):
    """Argument parser that suggests alternatives to unknown arguments."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, formatter_class=Help, **kwargs)  # type: ignore[misc, arg-type]

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Exit with an error about the first unknown argument, and a suggestion."""
        name, _, value = unknown[0].partition("=")
        value = value or next((text for text in unknown[1:2] if not text.startswith("-")), "VALUE")
        options = self._option_string_actions
        hint = near_match(name, [option for option in options if option.startswith("--")])
        key = _config_key(name.lstrip("-").replace("-", "_"))
        if key and "--override" in options:
            hint = f". To change a value of the config: -o {key}={value}"
        self.error(f"unknown argument {name}{hint}")


def _config_key(name: str) -> str:
    from ppfacerec.config.schema import GlobalSection

    known = [field.name for field in dataclasses.fields(GlobalSection)]
    return f"Global.{name}" if name in known else _KEYS.get(name, "")


def argument(names: str, help_text: str, **options: Any) -> Argument:
    """Return a function that adds an argument, or an option with space-separated `names`, to a parser."""
    return lambda parser: parser.add_argument(*names.split(), help=help_text, **options)


flag = partial(argument, action="store_true")
number = partial(argument, type=int, metavar="N")


def config_arguments(required: bool = False) -> list[Argument]:
    """Return the options -c, -o and PaddleClas's -p."""
    return [
        argument("-c --config", "a YAML config, or a name from `ppfacerec configs`", metavar="FILE", required=required),
        argument(
            "-o --override",
            "change a value of the config, such as -o Global.epochs=5 or -o DataLoader.Train.sampler.batch_size=64",
            metavar="KEY=VALUE", action="extend", nargs="+", default=[],
        ),
        argument("-p --profiler_options", argparse.SUPPRESS),  # PaddleClas's; see main.py
    ]  # fmt: skip


def first_command(arguments: Iterable[str]) -> str:
    """Return the first argument that is not an option."""
    return next((text for text in arguments if not text.startswith("-")), "")
