"""From a config to its parts, and from the parts to a run."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Optional

import numpy as np
import paddle

from ppfacerec import __version__, distributed
from ppfacerec.backbones import BACKBONES
from ppfacerec.config import Config, save_config, weights_file
from ppfacerec.data import EVAL_DATASETS, SAMPLERS, TRAIN_DATASETS
from ppfacerec.data.loader import TrainLoader
from ppfacerec.data.transforms import Pipeline
from ppfacerec.engine.checkpoint import Progress, finish_interrupted_save, load_states, set_optimizer_state
from ppfacerec.engine.ema import EMA
from ppfacerec.engine.evaluator import Evaluation, Evaluator
from ppfacerec.engine.trainer import Trainer, TrainingPlan
from ppfacerec.engine.weights import load_pretrained, match_weights, read_weights, set_weights
from ppfacerec.heads import HEADS
from ppfacerec.log import VisualDLLog, log_to_file, logger, table
from ppfacerec.losses import LOSSES, WeightedSum
from ppfacerec.metrics import METRICS
from ppfacerec.model_info import info_of_config, info_path, read_info, thresholds_of
from ppfacerec.optim import OPTIMIZERS, SCHEDULES, parameter_groups
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.runtime import MixedPrecision, choose_device, refuse_onednn_training


class Engine:
    """Builds what a checked config names, and trains or evaluates.

    Args:
        config: from ``load_config``.
        notes: what ``load_config`` said about keys without effect, for the log.

    Raises:
        ValueError: the device is not there.
    """

    def __init__(self, config: Config, notes: Sequence[str] = ()) -> None:
        self.config = config
        self.output_dir = Path(config.Global.output_dir)
        self._device = choose_device(config.Global.device)
        distributed.init()
        if distributed.rank() == 0:
            self.output_dir.mkdir(parents=True, exist_ok=True)
        distributed.barrier()
        self._notes = list(notes)

    def train(self) -> dict[int, Evaluation]:
        """Train from scratch, from pretrained weights or from a checkpoint; return the evaluations by epoch."""
        refuse_onednn_training()
        self._begin("train")
        self._make_demo_data()
        glob = self.config.Global
        paddle.seed(glob.seed)  # initial weights
        np.random.seed(glob.seed)
        loader = self._train_loader()
        recognizer = self._recognizer(with_head=True)
        optimizer = self._optimizer(recognizer)
        precision = self._precision()
        precision.decorate(recognizer.backbone, optimizer)
        ema = EMA(recognizer, self.config.EMA.decay) if self.config.EMA else None
        progress = self._resume(recognizer, optimizer, precision, ema)
        plan = TrainingPlan(
            self.output_dir, glob.epochs, glob.save_interval, glob.eval_interval, glob.print_batch_step,
            glob.update_freq, glob.seed, glob.eval_before_train,
        )  # fmt: skip
        is_main = distributed.rank() == 0
        visualdl = VisualDLLog(self.output_dir / "vdl" if glob.use_visualdl and is_main else None)
        evaluator = self._evaluator() if glob.eval_during_train else None
        if is_main:
            save_config(self.config, self.output_dir / "config.yaml")
        trainer = Trainer(
            recognizer, self._losses(), optimizer, self._schedule(loader), loader, evaluator, precision, plan, ema,
            progress, visualdl,
        )  # fmt: skip
        evaluations = trainer.train()
        for name, epoch in (("latest", max(evaluations, default=0)), ("best_model", progress.best_epoch)):
            self._save_trained_info(name, recognizer, evaluations.get(epoch))
        self._say_results(evaluations, progress)
        return evaluations

    def evaluate(self) -> Evaluation:
        """Evaluate the weights of ``Global.pretrained_model``; eval.json goes to output_dir."""
        self._begin("eval")
        self._make_demo_data()
        recognizer = self._recognizer(with_head=False)
        if self.config.Global.pretrained_model is None:
            logger.warning("Global.pretrained_model is not set: these are the numbers of random weights.")
        evaluation = self._evaluator().evaluate(recognizer.backbone)
        if distributed.rank() == 0:
            evaluation.save(self.output_dir / "eval.json")
        logger.info("Evaluation\n%s", evaluation.table())
        logger.info("Written: %s", self.output_dir / "eval.json")
        self._save_thresholds(recognizer, evaluation)
        return evaluation

    def _begin(self, mode: str) -> None:
        if distributed.rank() == 0:
            log_to_file(self.output_dir / f"{mode}.log")
        logger.info(
            "ppfacerec %s, Paddle %s, Python %s, %s, %d process%s",
            __version__, paddle.__version__, platform.python_version(), self._device.upper(),
            distributed.world_size(), "" if distributed.world_size() == 1 else "es",
        )  # fmt: skip
        for note in self._notes:
            logger.info("%s", note)

    def _make_demo_data(self) -> None:
        if self.config.Global.demo_data:
            from ppfacerec.data.demo_faces import make_demo_data

            if distributed.rank() == 0:
                make_demo_data(**self.config.Global.demo_data)
            distributed.barrier()

    def _train_loader(self) -> TrainLoader:
        section = self.config.DataLoader.Train
        assert section is not None, "checked by load_config"
        class_num = self.config.Arch.Head.kwargs["class_num"]
        dataset = TRAIN_DATASETS.build(section.dataset, class_num=class_num)
        dataset.read(0)  # a wrong image_root shows now, not after an evaluation
        sampler = SAMPLERS.build(
            section.sampler, num_samples=len(dataset), seed=self.config.Global.seed,
            rank=distributed.rank(), world_size=distributed.world_size(),
        )  # fmt: skip
        logger.info(
            "Training set: %d images, labels 0 to %d, %d lines that name no image left out; %d iterations an epoch",
            len(dataset), dataset.num_classes - 1, getattr(dataset, "num_skipped", 0), len(sampler),
        )  # fmt: skip
        if dataset.num_classes < class_num:
            logger.warning("Arch.Head.class_num is %d, but the labels end at %d.", class_num, dataset.num_classes - 1)
        return TrainLoader(
            dataset, Pipeline(section.transform_ops), sampler, section.loader.num_workers,
            section.loader.use_shared_memory, self.config.Global.seed,
        )  # fmt: skip

    def _recognizer(self, with_head: bool) -> FaceRecognizer:
        arch = self.config.Arch
        recognizer = FaceRecognizer(BACKBONES.build(arch.Backbone), HEADS.build(arch.Head) if with_head else None)
        size = sum(p.size for p in recognizer.backbone.parameters() if not p.stop_gradient)
        logger.info("Backbone %s: %.2f million trained parameters", arch.Backbone.name, size / 1e6)
        if self.config.Global.pretrained_model:
            info = info_of_config(self.config, recognizer.backbone.embedding_size)
            load_pretrained(
                recognizer, self.config.Global.pretrained_model, self.config.Global.load_head, config_info=info
            )
        distributed.broadcast_layer(recognizer)
        return recognizer

    def _losses(self) -> WeightedSum:
        assert self.config.Loss is not None, "checked by load_config"
        losses = {}
        for spec in self.config.Loss.Train:
            kwargs = {k: v for k, v in spec.kwargs.items() if k != "weight"}
            losses[spec.name] = (LOSSES.get(spec.name)(**kwargs), float(spec.kwargs.get("weight", 1.0)))
        return WeightedSum(losses)

    def _optimizer(self, recognizer: FaceRecognizer) -> paddle.optimizer.Optimizer:
        section = self.config.Optimizer
        assert section is not None, "checked by load_config"
        default = OPTIMIZERS.signature(section.spec.name).parameters["weight_decay"].default
        decay = section.spec.kwargs.get("weight_decay", default)
        groups = parameter_groups([recognizer], decay, section.one_dim_param_no_weight_decay)
        return OPTIMIZERS.build(section.spec, groups=groups, clip_norm=section.clip_norm)

    def _schedule(self, loader: TrainLoader) -> Callable[[int], float]:
        """The schedule by optimizer step, scaled to the total batch where ``base_batch_size`` is given."""
        section, glob = self.config.Optimizer, self.config.Global
        assert section is not None, "checked by load_config"
        kwargs = {k: v for k, v in section.lr.kwargs.items() if k != "base_batch_size"}
        steps = -(-len(loader) // glob.update_freq)
        schedule = SCHEDULES.get(section.lr.name)(**kwargs, epochs=glob.epochs, steps_per_epoch=steps)
        total = loader.sampler.global_batch_size * glob.update_freq
        base = section.lr.kwargs.get("base_batch_size")
        if base is None:
            logger.info(
                "Total batch %d (%d a process x %d processes x update_freq %d), learning rate %g as given. "
                "PaddleClas's 4e-3 is for a total batch of 1024; Optimizer.lr.base_batch_size: 1024 would scale it.",
                total, loader.sampler.batch_size, distributed.world_size(), glob.update_freq, schedule.learning_rate,
            )  # fmt: skip
            return schedule
        factor = total / base
        logger.info("Total batch %d: learning rates times %g (base_batch_size %d).", total, factor, base)
        return lambda step: schedule(step) * factor

    def _precision(self) -> MixedPrecision:
        amp = self.config.AMP
        if amp is None:
            return MixedPrecision()
        if self._device == "cpu":
            logger.info("AMP is for GPUs: on the CPU everything is computed in float32.")
            return MixedPrecision()
        return MixedPrecision(amp.level, amp.dtype, amp.scale_loss, amp.use_dynamic_loss_scaling)

    def _resume(
        self,
        recognizer: FaceRecognizer,
        optimizer: paddle.optimizer.Optimizer,
        precision: MixedPrecision,
        ema: Optional[EMA],
    ) -> Progress:
        """Go on from ``Global.checkpoints``; a fresh progress where there is none."""
        prefix = self.config.Global.checkpoints
        if not prefix:
            return Progress()
        if distributed.rank() == 0:
            finish_interrupted_save(prefix)
        distributed.barrier()
        weights = read_weights(prefix)
        problems = match_weights(recognizer, weights).problems("")
        if problems:
            raise ValueError(f"{weights_file(prefix)} does not fit the network of the config: {'; '.join(problems)}.")
        optimizer_state, states = load_states(prefix)
        set_weights(recognizer, weights)
        set_optimizer_state(recognizer, optimizer, optimizer_state)
        if precision.level is not None and states["scaler"]:
            precision.scaler.load_state_dict(states["scaler"])
        if ema:
            ema.load_state(states.get("ema", weights))
        progress = Progress(**states["progress"])
        logger.info(
            "Resumed from %s: epoch %d, iteration %d, optimizer step %d, best accuracy %s.",
            prefix, progress.epoch, progress.iteration, progress.global_step,
            "none yet" if progress.best_accuracy is None else f"{progress.best_accuracy:.5f}",
        )  # fmt: skip
        return progress

    def _evaluator(self) -> Evaluator:
        glob, section = self.config.Global, self.config.DataLoader.Eval
        metric = self.config.Metric
        assert section is not None and metric is not None, "checked by load_config"
        dataset = EVAL_DATASETS.build(section.dataset)
        if dataset.left_out:
            logger.info("Evaluation sets %s; left out: %s.", ", ".join(dataset.paths), ", ".join(dataset.left_out))
        return Evaluator(
            dataset.paths,
            Pipeline(section.transform_ops),
            METRICS.build(metric.Eval[0]),
            batch_size=section.sampler.kwargs["batch_size"],
            flip_test=glob.flip_test,
            feature_normalize=glob.feature_normalize,
            backend=glob.eval_backend,
        )

    def _save_trained_info(self, name: str, recognizer: FaceRecognizer, evaluation: Optional[Evaluation]) -> None:
        """Write beside weights of this training how images are prepared for them, and the measured thresholds."""
        weights = self.output_dir / f"{name}.pdparams"
        if distributed.rank() == 0 and weights.is_file():
            info = info_of_config(self.config, recognizer.backbone.embedding_size)
            thresholds = thresholds_of(evaluation.results) if evaluation else {}
            dataclasses.replace(info, thresholds=thresholds).save(info_path(weights))

    def _save_thresholds(self, recognizer: FaceRecognizer, evaluation: Evaluation) -> None:
        """Put what was measured into the info beside the evaluated weights; the rest of an info stays."""
        weights = Path(weights_file(self.config.Global.pretrained_model or ""))
        if distributed.rank() != 0 or not weights.is_file():  # a model of the zoo has no folder of its own
            return
        path = info_path(weights)
        used = info_of_config(self.config, recognizer.backbone.embedding_size)
        info = read_info(path) if path.is_file() else dataclasses.replace(used, training_data=None, config=None)
        info = dataclasses.replace(
            info, flip_test=used.flip_test, feature_normalize=used.feature_normalize, thresholds={}
        )
        if info.mismatches(used):
            logger.warning("The thresholds are not kept in %s: images were prepared in another way than it says.", path)
            return
        try:
            dataclasses.replace(info, thresholds=thresholds_of(evaluation.results)).save(path)
        except OSError as error:
            logger.warning("%s cannot be written (%s): the thresholds are not kept.", path, error)
            return
        logger.info("Written: %s", path)

    def _say_results(self, evaluations: Mapping[int, Evaluation], progress: Progress) -> None:
        """The end of a training log: accuracy by epoch, the last evaluation, and what was written."""
        if evaluations:
            last = evaluations[max(evaluations)]
            rows = [
                [str(epoch), *(f"{r.accuracy_mean:.5f}" for r in e.results.values()), f"{e.average_accuracy:.5f}"]
                for epoch, e in evaluations.items()
            ]
            logger.info("Accuracy by epoch\n%s", table(["epoch", *last.results, "average"], rows))
            logger.info("After the last epoch\n%s", last.table())
        if progress.best_accuracy is not None:
            logger.info("Best average accuracy %.5f, in epoch %d", progress.best_accuracy, progress.best_epoch)
        names = ["config.yaml", "train.log", "train.csv", "eval.json", "eval.csv", "latest.pdparams",
                 "best_model.pdparams"]  # fmt: skip
        written = [str(self.output_dir / name) for name in names if (self.output_dir / name).is_file()]
        logger.info("Written:\n%s", "\n".join(f"  {path}" for path in written))
