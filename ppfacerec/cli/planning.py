"""``ppfacerec plan``, ``demo-data`` and ``configs``: what there is before a training."""

import argparse

from ppfacerec.core.log import logger, table


def configs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="print this one, to be changed: ppfacerec configs quickstart > my.yaml")


def configs(arguments: argparse.Namespace) -> int:
    from ppfacerec.config import find_config, shipped_configs

    if arguments.name:
        print(find_config(arguments.name).read_text(encoding="utf-8"), end="")
        return 0
    rows = [
        [name, path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")]
        for name, path in shipped_configs().items()
    ]
    print("\n".join(line.rstrip() for line in table(["config", "what it trains"], rows, left=2).splitlines()))
    return 0


def demo_data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where to write it")
    parser.add_argument("--num-identities", type=int, default=80, metavar="N", help="people in the training set")
    parser.add_argument("--images-per-identity", type=int, default=16, metavar="N", help="training images of each")
    parser.add_argument(
        "--num-pairs", type=int, default=200, metavar="N", help="pairs in each evaluation set, a multiple of 20"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed draws other people")


def demo_data(arguments: argparse.Namespace) -> int:
    from ppfacerec.demo.demo_faces import make_demo_data

    made = make_demo_data(
        arguments.out, arguments.num_identities, arguments.images_per_identity, arguments.num_pairs, arguments.seed
    )
    logger.info("Synthetic demo data in %s", made)
    return 0


def plan_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--classes", type=int, required=True, metavar="N", help="identities")
    parser.add_argument("--embedding-size", type=int, default=512, metavar="N", help="length of an embedding")
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="GPUs of all machines together")
    parser.add_argument("--memory", type=float, metavar="GIB", help="of one GPU; says whether the run fits")
    parser.add_argument("--batch", type=int, default=128, metavar="N", help="images a GPU and step")
    parser.add_argument("--backbone", default="IResNet50", metavar="NAME", help="as in Arch.Backbone.name")
    parser.add_argument("--sample-rate", type=float, default=1.0, metavar="R", help="share of the class centres a step")
    parser.add_argument(
        "--optimizer", default="Momentum", choices=["SGD", "Momentum", "Adam", "AdamW"], help="whose state counts"
    )
    parser.add_argument("--amp", default="O1", choices=["O1", "O2", "off"], help="mixed precision")
    parser.add_argument("--recompute", action="store_true", help="gradient checkpointing in the backbone")
    parser.add_argument("--data-parallel", action="store_true", help="replicate the classes instead of sharding them")


def plan(arguments: argparse.Namespace) -> int:
    from ppfacerec.backbones import BACKBONES
    from ppfacerec.core.registry import Spec
    from ppfacerec.engine.memory_plan import GIB, TrainingSize, measure_backbone, report

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
