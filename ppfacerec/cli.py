"""The command line: ``ppfacerec train | eval | convert-weights | ...``; tools/*.py call the same functions."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Optional

from ppfacerec import __version__, log
from ppfacerec.commands import data, export, infer, weights

EXIT_ERROR, EXIT_INTERRUPTED = 1, 130
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: training was asked to stop and has saved; start it again to go on


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run ``ppfacerec`` with its subcommands; return the exit status."""
    parser = argparse.ArgumentParser(prog="ppfacerec", description="Train and evaluate face recognition networks.")
    parser.add_argument("--version", action="version", version=f"ppfacerec {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (help_text, add_arguments, run) in _COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=help_text)
        add_arguments(command)
        command.set_defaults(run=run)
    parsed = parser.parse_args(arguments)
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
        return run(arguments)
    except KeyboardInterrupt:
        log.logger.error("Interrupted.")
        return EXIT_INTERRUPTED
    except (ValueError, ImportError, OSError) as error:  # OSError: a full disk, no permission
        if os.environ.get("PPFACEREC_TRACEBACK"):
            traceback.print_exc()
        log.logger.error("%s", error)
        return EXIT_ERROR


def _config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", help="the YAML config")
    parser.add_argument(
        "-o", "--override", metavar="KEY=VALUE", action="extend", nargs="+", default=[],
        help="change a value of the config, such as -o Global.epochs=5 or -o DataLoader.Train.sampler.batch_size=64",
    )  # fmt: skip


def _train(arguments: argparse.Namespace) -> int:
    from ppfacerec import distributed
    from ppfacerec.config import ConfigError, load_config
    from ppfacerec.engine import Engine, TrainingStopped

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


def _eval_arguments(parser: argparse.ArgumentParser) -> None:
    _config_arguments(parser)
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
    from ppfacerec import distributed
    from ppfacerec.config import config_beside, load_config
    from ppfacerec.engine import Engine

    chosen = (("Global.report=True", arguments.report), ("Global.report_faces=False", arguments.no_faces))
    overrides = [*arguments.override, *(override for override, is_chosen in chosen if is_chosen)]
    path = arguments.config or config_beside(overrides)
    with distributed.first_failure_first():
        with distributed.failing_together():
            config, notes = load_config(path, overrides, "eval")
        Engine(config, notes).evaluate()
    return 0


def _eval_embeddings(arguments: argparse.Namespace) -> int:
    """Score .npz files; eval.json and the report go to ``Global.output_dir``, by default ./output."""
    from ppfacerec.config import ConfigError, parse_yaml
    from ppfacerec.embeddings_file import evaluate_files

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


def _demo_data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where to write it")
    parser.add_argument("--num-identities", type=int, help="people in the training set")
    parser.add_argument("--images-per-identity", type=int, help="training images of each")
    parser.add_argument("--num-pairs", type=int, help="pairs in each evaluation set, a multiple of 20")
    parser.add_argument("--seed", type=int, help="another seed draws other people")


def _demo_data(arguments: argparse.Namespace) -> int:
    from ppfacerec.data.demo_faces import make_demo_data

    names = ("num_identities", "images_per_identity", "num_pairs", "seed")
    chosen = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    log.logger.info("Synthetic demo data in %s", make_demo_data(arguments.out, **chosen))
    return 0


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--classes", type=int, required=True, metavar="N", help="identities")
    parser.add_argument("--embedding-size", type=int, default=512, metavar="N", help="512 unless told")
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="GPUs of all machines together")
    parser.add_argument("--memory", type=float, metavar="GIB", help="of one GPU; says whether the run fits")
    parser.add_argument("--batch", type=int, default=128, metavar="N", help="images a GPU and step")
    parser.add_argument("--backbone", default="IResNet50", metavar="NAME")
    parser.add_argument("--sample-rate", type=float, default=1.0, metavar="R", help="share of the class centres a step")
    parser.add_argument("--optimizer", default="Momentum", choices=["SGD", "Momentum", "Adam", "AdamW"])
    parser.add_argument("--amp", default="O1", choices=["O1", "O2", "off"])
    parser.add_argument("--recompute", action="store_true", help="gradient checkpointing in the backbone")
    parser.add_argument("--data-parallel", action="store_true", help="replicate the classes instead of sharding them")


def _plan(arguments: argparse.Namespace) -> int:
    from ppfacerec.backbones import BACKBONES
    from ppfacerec.plan import GIB, TrainingSize, measure_backbone, report
    from ppfacerec.registry import Spec

    for name in ("classes", "embedding_size", "gpus", "batch"):
        if getattr(arguments, name) < 1:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option}: expected a whole number of at least 1, found {getattr(arguments, name)}.")
    if not 0 < arguments.sample_rate <= 1:
        raise ValueError(f"--sample-rate: expected a number above 0 and up to 1, found {arguments.sample_rate}.")
    width = arguments.embedding_size
    backbone = BACKBONES.build(Spec(arguments.backbone), num_features=width, class_num=width)  # it takes its own one
    size = TrainingSize(
        measure_backbone(backbone, arguments.backbone),
        class_num=arguments.classes,
        embedding_size=arguments.embedding_size,
        batch_size=arguments.batch,
        num_gpus=arguments.gpus,
        class_parallel=not arguments.data_parallel,
        sample_rate=arguments.sample_rate,
        optimizer=arguments.optimizer,
        amp=None if arguments.amp == "off" else arguments.amp,
        recompute=arguments.recompute,
    )
    print(report(size, round(arguments.memory * GIB) if arguments.memory else None))
    return 0


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    _config_arguments(parser)
    export.arguments(parser)


_COMMANDS = {
    "train": ("Train a network as a config says.", _config_arguments, _train),
    "eval": ("Evaluate weights, or embeddings made elsewhere, on verification sets.", _eval_arguments, _eval),
    "plan": ("Estimate a run's memory and traffic before starting it.", _plan_arguments, _plan),
    "export": ("Write an inference model: Paddle Inference or ONNX.", _export_arguments, export.run),
    "infer": ("Embed, compare, search and group faces.", infer.arguments, infer.run),
    "convert-weights": ("Convert weights of other projects.", weights.convert_arguments, weights.convert),
    "models": ("List the published weights that are read here.", weights.no_arguments, weights.models),
    "demo-data": ("Draw synthetic faces to try the toolkit with.", _demo_data_arguments, _demo_data),
    **data.COMMANDS,
}
