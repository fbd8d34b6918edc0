"""Builders of the training components that need more than a constructor's call."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import paddle

from ppfacerec.config import Config
from ppfacerec.config.schema import GlobalSection
from ppfacerec.core import distributed
from ppfacerec.core.log import logger
from ppfacerec.data import SAMPLERS, TRAIN_DATASETS
from ppfacerec.data.datasets.base import TrainDataset, check_readable, gap_hint
from ppfacerec.data.loading.bad_images import BadImages
from ppfacerec.data.loading.loader import TrainLoader
from ppfacerec.data.transforms.basic import Pipeline
from ppfacerec.losses import LOSSES, WeightedSum
from ppfacerec.optim import OPTIMIZERS, SCHEDULES, parameter_groups
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.training.checkpoints.saver import SavePlan

_MOST_CLASSES_AN_IMAGE = 100  # for classes beyond 1000


def _check_classes(num_classes: int, num_images: int) -> None:
    """Reject a head whose size results from a wrong label."""
    if num_classes > 1000 + _MOST_CLASSES_AN_IMAGE * num_images:
        raise ValueError(
            f"The labels go up to {num_classes - 1}, but there are only {num_images} images: a head for so many "
            "classes would be mostly empty. Is a label wrong? dataset.relabel: True numbers them without gaps; "
            f"Arch.Head.class_num={num_classes} allows it anyway."
        )


def build_train_loader(config: Config, output_dir: Path) -> TrainLoader:
    """Read and check the training set; return its loader."""
    section = config.DataLoader.Train
    assert section is not None, "checked by load_config"
    class_num = config.Arch.Head.kwargs.get("class_num")
    dataset = TRAIN_DATASETS.build(section.dataset, class_num=class_num)
    bad_images = BadImages(section.loader.on_bad_image, section.loader.max_bad_images, output_dir / "bad_images.txt")
    check_readable(dataset, bad_images.skip)  # detects a wrong image_root now, not after an evaluation
    sampler = SAMPLERS.build(
        section.sampler, num_samples=len(dataset), seed=config.Global.seed,
        rank=distributed.rank(), world_size=distributed.world_size(),
    )  # fmt: skip
    logger.info(
        "Training set: %d images, labels 0 to %d; %d iterations per epoch",
        len(dataset), dataset.num_classes - 1, len(sampler),
    )  # fmt: skip
    if left_out := getattr(dataset, "left_out", ""):
        logger.info("Left out of the training set: %s.", left_out)
    if class_num is None:
        _check_classes(dataset.num_classes, len(dataset))
        logger.info("Arch.Head.class_num is not set: using the %d classes of the data.", dataset.num_classes)
    elif dataset.num_classes < class_num:
        logger.warning("Arch.Head.class_num is %d, but the labels end at %d.", class_num, dataset.num_classes - 1)
    hint = gap_hint(dataset.labels, dataset.num_classes)
    if hint:
        logger.warning("%s", hint)
    _write_label_map(dataset, output_dir)
    return TrainLoader(
        dataset, Pipeline(section.transform_ops), sampler, section.loader.num_workers, seed=config.Global.seed,
        bad_images=bad_images, persistent_workers=section.loader.persistent_workers,
        prefetch_factor=section.loader.prefetch_factor,
    )  # fmt: skip


def _write_label_map(dataset: TrainDataset, output_dir: Path) -> None:
    """Write the original label of each class if `relabel` renumbered them."""
    original = getattr(dataset, "original_labels", None)
    if original is None or distributed.rank() != 0:
        return
    path = output_dir / "label_map.txt"
    path.write_text("".join(f"{new}\t{old}\n" for new, old in enumerate(original)))
    logger.info("Classes were renumbered; the original label of each is in %s.", path)


def build_losses(config: Config) -> WeightedSum:
    """Build the weighted sum of `Loss.Train`."""
    assert config.Loss is not None, "checked by load_config"
    losses = {}
    for spec in config.Loss.Train:
        kwargs = {k: v for k, v in spec.kwargs.items() if k != "weight"}
        losses[spec.name] = (LOSSES.get(spec.name)(**kwargs), float(spec.kwargs.get("weight", 1.0)))
    return WeightedSum(losses)


def build_optimizer(config: Config, recognizer: FaceRecognizer) -> paddle.optimizer.Optimizer:
    """Build the optimizer of the trained parameters, in groups with and without weight decay."""
    section = config.Optimizer
    assert section is not None, "checked by load_config"
    default = OPTIMIZERS.signature(section.spec.name).parameters["weight_decay"].default
    decay = section.spec.kwargs.get("weight_decay", default)
    groups = parameter_groups([recognizer], decay, section.one_dim_param_no_weight_decay, section.no_weight_decay_name)
    return OPTIMIZERS.build(section.spec, groups=groups, clip_norm=section.clip_norm)


def build_schedule(config: Config, loader: TrainLoader) -> Callable[[int], float]:
    """Build the learning-rate schedule by optimizer step, scaled to the total batch with ``base_batch_size``."""
    section, glob = config.Optimizer, config.Global
    assert section is not None, "checked by load_config"
    kwargs = {k: v for k, v in section.lr.kwargs.items() if k != "base_batch_size"}
    steps = -(-len(loader) // glob.update_freq)
    schedule = SCHEDULES.get(section.lr.name)(**kwargs, epochs=glob.epochs, steps_per_epoch=steps)
    for remark in schedule.remarks():
        logger.warning("Optimizer.lr.%s.", remark)
    total = loader.sampler.global_batch_size * glob.update_freq
    base = section.lr.kwargs.get("base_batch_size")
    if base is None:
        logger.info(
            "Total batch %d (%d per process x %d processes x update_freq %d), learning rate %g as given. PaddleClas's "
            "4e-3 is for a total batch of 1024; Optimizer.lr.base_batch_size: 1024 would scale it.",
            total, loader.sampler.batch_size, distributed.world_size(), glob.update_freq, schedule.learning_rate,
        )  # fmt: skip
        return schedule
    factor = total / base
    logger.info("Total batch %d: learning rates multiplied by %g (base_batch_size %d).", total, factor, base)
    return lambda step: schedule(step) * factor


def save_plan(section: GlobalSection) -> SavePlan:
    """Return the config's plan for saving checkpoints."""
    given = {field.name: getattr(section, field.name) for field in fields(SavePlan)}
    return SavePlan(**{**given, "output_dir": Path(section.output_dir)})
