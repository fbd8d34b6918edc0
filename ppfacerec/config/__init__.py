"""YAML configs: strictly parsed, fully checked before anything is built, then frozen."""

import sys
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Optional, Union

import yaml

from ppfacerec.config.binder import Binder
from ppfacerec.config.check import Mode, check_config, import_plugins, with_our_names
from ppfacerec.config.errors import ConfigError
from ppfacerec.config.paddleclas import translate
from ppfacerec.config.schema import Config
from ppfacerec.config.yaml_file import apply_overrides, parse_yaml, read_yaml
from ppfacerec.core.io.atomic_file import atomic_write_text
from ppfacerec.core.registry import near_match, thaw
from ppfacerec.weights.fetch import weights_file

__all__ = [
    "Config", "ConfigError", "config_beside", "find_config", "load_config", "parse_yaml", "save_config",
    "shipped_configs", "weights_file",
]  # fmt: skip


def load_config(
    source: Union[Config, Mapping[str, Any], str, PathLike[str]],
    overrides: Sequence[str] = (),
    mode: Mode = "train",
    is_named: bool = True,
) -> tuple[Config, list[str]]:
    """Read, override, bind and check a config in one pass.

    Args:
        source: a YAML file, the name of a shipped config, a mapping of sections, or a ``Config``.
        overrides: ``a.b.0.c=value`` as given with ``-o``.
        mode: intended use; ``"eval"`` requires no training data, ``"export"`` no data at all.
        is_named: whether the user named this file; plugins of a config found beside weights are not imported.

    Returns:
        The frozen config, and a line for each PaddleClas key that is accepted without effect.

    Raises:
        ConfigError: with every problem found.
    """
    where = "the config"
    if isinstance(source, Config):
        source = source.to_tree()
    if isinstance(source, Mapping):
        tree, problems = thaw(source), list[str]()
    else:
        where = str(find_config(source))
        tree, problems = read_yaml(where)
    is_named |= any(override.startswith("Global.plugins") for override in overrides)
    section = tree.get("Global")
    found_plugins = section.get("plugins") if isinstance(section, Mapping) and not is_named else None
    problems += apply_overrides(tree, overrides)
    try:
        tree, notes, more = translate(tree)
    except ConfigError as error:
        raise ConfigError(error.problems, where) from None
    binder = Binder()
    config: Config = binder.section(Config, tree)  # with problems, parts may be None or of a wrong type
    problems += [*more, *binder.problems]
    plugins = config.Global.plugins if config.Global is not None else ()
    unknown = [name for name in plugins if name in (found_plugins or ()) and name not in sys.modules]
    if plugins and problems:
        problems.append("Global.plugins: not imported until the other problems are fixed.")
    elif unknown:
        problems.append(
            f"Global.plugins: {', '.join(unknown)} would be imported; give the config with -c to allow it (`infer` has "
            "no -c: export the model with it)."
        )
    else:
        problems += import_plugins(plugins)
    if plugins and problems:  # without the import, their components cannot be checked
        raise ConfigError(problems, where)
    config = with_our_names(config)
    problems += check_config(config, mode, found=problems)
    if problems:
        raise ConfigError(problems, where)
    return config, notes


def shipped_configs() -> dict[str, Path]:
    """Return the configs shipped with the package by the name that ``-c`` accepts: file name without suffix."""
    return {path.stem: path for path in sorted((Path(__file__).parents[1] / "configs").rglob("*.yaml"))}


def find_config(path: Union[str, PathLike[str]]) -> Path:
    """Return the path of a config file, or of a shipped config given by name (``quickstart``).

    Raises:
        ConfigError: neither exists.
    """
    shipped = shipped_configs()
    is_there = Path(path).exists() and not Path(path).is_dir()  # read_yaml rejects special files
    if is_there or (str(path) not in shipped and Path(path).name != str(path)):
        return Path(path)
    if str(path) in shipped:
        return shipped[str(path)]
    near = near_match(Path(path).stem, [*shipped, *(p.stem for p in Path().glob("*.yaml"))])
    raise ConfigError([f"the file does not exist{near} `ppfacerec configs` lists those that ship."], str(path))


def save_config(config: Config, path: Union[str, Path]) -> None:
    """Write the resolved config, defaults included; ``load_config`` reads the same config back."""
    text = yaml.safe_dump(config.to_tree(), sort_keys=False, allow_unicode=True, default_flow_style=None)
    with atomic_write_text(path) as file:
        file.write(f"# The resolved config of this run, written by ppfacerec.\n{text}")


def config_beside(overrides: Sequence[str]) -> Path:
    """Find the ``config.yaml`` beside the weights that ``-o Global.pretrained_model=...`` names.

    Raises:
        ConfigError: there is no such override, or no config beside the weights.
    """
    prefix: Optional[str] = None
    for override in overrides:
        key, _, text = override.partition("=")
        if key.strip() == "Global.pretrained_model":
            prefix, _ = parse_yaml(text, "-o Global.pretrained_model")
    if not prefix:
        raise ConfigError(
            ["give a config with -c, or weights with -o Global.pretrained_model=output/X/best_model."], "the command"
        )
    beside = Path(prefix).parent / "config.yaml"
    if not beside.is_file():
        raise ConfigError(
            [f"there is no config.yaml beside {prefix} ({beside} does not exist); give the config with -c."],
            "the command",
        )
    return beside
