"""From a config to its parts, and from the parts to a run."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import numpy as np
import paddle
from paddle import nn

from ppfacerec import __version__, distributed
from ppfacerec.backbones import BACKBONES
from ppfacerec.config import Config, save_config, weights_file
from ppfacerec.data import EVAL_DATASETS
from ppfacerec.data.loader import TrainLoader
from ppfacerec.data.transforms import Pipeline
from ppfacerec.engine.checkpoint import Progress
from ppfacerec.engine.ema import EMA
from ppfacerec.engine.evaluator import Evaluation, Evaluator
from ppfacerec.engine.parts import build_losses, build_optimizer, build_schedule, build_train_loader
from ppfacerec.engine.resume import Resumable, find_checkpoint, resume
from ppfacerec.engine.run_facts import RunFacts
from ppfacerec.engine.run_lock import make_output_dir, only_run
from ppfacerec.engine.saver import Savable, Saver, save_plan
from ppfacerec.engine.trainer import Trainer, TrainingPlan
from ppfacerec.engine.visuals import build_visuals
from ppfacerec.engine.weights import load_pretrained
from ppfacerec.heads import HEADS, MarginHead
from ppfacerec.log import log_to_file, logger, table
from ppfacerec.metrics import METRICS
from ppfacerec.model_info import info_of_config, info_path, read_info, thresholds_of
from ppfacerec.optim.sparse_update import SparseUpdate
from ppfacerec.plan import fit, size_of_run
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.runtime import MixedPrecision, choose_device, device_memory, refuse_onednn_training


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
        make_output_dir(self.output_dir)
        self._notes = list(notes)

    def train(self) -> dict[int, Evaluation]:
        """Train from scratch, from pretrained weights or from a checkpoint; return the evaluations by epoch."""
        refuse_onednn_training()
        with only_run(self.output_dir):
            return self._train()

    def _train(self) -> dict[int, Evaluation]:
        self._begin("train")
        self._make_demo_data()
        glob = self.config.Global
        checkpoint = find_checkpoint(glob.checkpoints, self.output_dir)
        paddle.seed(glob.seed)  # initial weights
        np.random.seed(glob.seed)
        loader = build_train_loader(self.config, self.output_dir)
        recognizer = self._recognizer(loader.dataset.num_classes)
        self._prepare_head(recognizer.head, loader)
        self._check_memory(recognizer, loader)
        optimizer = build_optimizer(self.config, recognizer)
        active = getattr(recognizer.head, "active", None)
        sparse = SparseUpdate(active, optimizer) if active else None
        precision = self._precision()
        precision.decorate(recognizer.backbone, optimizer)
        ema = EMA(recognizer, self.config.EMA.decay) if self.config.EMA else None
        progress, facts = Progress(), RunFacts.of_run(self.config, recognizer, loader)
        if checkpoint:
            resumable = Resumable(recognizer, optimizer, precision, ema, sparse)
            progress, facts = resume(checkpoint, resumable, facts)
        if progress.epoch > glob.epochs:
            logger.info("All %d epochs are trained; Global.epochs can be raised to go on.", glob.epochs)
        plan = TrainingPlan(
            self.output_dir, glob.epochs, glob.eval_interval, glob.print_batch_step, glob.update_freq, glob.seed,
            glob.eval_before_train, glob.bn_sync, glob.max_bad_steps, glob.watchdog_minutes,
        )  # fmt: skip
        savable = Savable(recognizer, optimizer, precision, sparse, ema, progress, facts.to_states())
        saver = Saver(save_plan(glob), savable, spare=checkpoint)
        is_main = distributed.rank() == 0
        evaluator = self._evaluator() if glob.eval_during_train else None
        if evaluator:
            evaluator.check()
        if is_main:
            save_config(self.config, self.output_dir / "config.yaml")
        losses, schedule = build_losses(self.config), build_schedule(self.config, loader)
        sets = evaluator.dataset.names if evaluator else ()
        visuals = build_visuals(self.config, recognizer, loader, sets, progress, checkpoint)
        trainer = Trainer(
            recognizer, losses, optimizer, schedule, loader, evaluator, precision, plan, ema, progress, visuals, saver,
            sparse,
        )  # fmt: skip
        if glob.checkpoints:
            trainer.forget_later_rows()
        trainer.on_best = lambda evaluation: self._save_trained_info("best_model", recognizer, evaluation)
        try:
            evaluations = trainer.train()
        finally:
            loader.close()
        if evaluations or not info_path(self.output_dir / "latest.pdparams").is_file():
            self._save_trained_info("latest", recognizer, evaluations.get(max(evaluations, default=0)))
        self._say_results(evaluations, progress)
        if evaluator and evaluations:
            self._write_report(evaluations[max(evaluations)], evaluator, f"epoch {max(evaluations)}")
        return evaluations

    def evaluate(self) -> Evaluation:
        """Evaluate the weights of ``Global.pretrained_model``; eval.json goes to output_dir."""
        self._begin("eval")
        self._make_demo_data()
        recognizer = self._recognizer()
        if self.config.Global.pretrained_model is None:
            logger.warning("Global.pretrained_model is not set: these are the numbers of random weights.")
        evaluator = self._evaluator()
        evaluation = evaluator.evaluate(recognizer.backbone)
        if distributed.rank() == 0:
            evaluation.save(self.output_dir / "eval.json")
        logger.info("Evaluation\n%s", evaluation.table())
        logger.info("Written: %s", self.output_dir / "eval.json")
        self._write_report(evaluation, evaluator, self.config.Global.pretrained_model)
        self._save_thresholds(recognizer, evaluation)
        return evaluation

    def _write_report(self, evaluation: Evaluation, evaluator: Evaluator, weights: Optional[str]) -> None:
        glob = self.config.Global
        if not glob.report or distributed.rank() != 0:
            return
        from ppfacerec.report import write_report  # draws with matplotlib, which others need not import

        facts = {
            "weights": weights or "random",
            "backbone": self.config.Arch.Backbone.name,
            "flip test": "yes" if glob.flip_test else "no",
        }
        logger.info("Written: %s", write_report(self.output_dir / "report", evaluation, evaluator.dataset, facts=facts))

    def _begin(self, mode: str) -> None:
        if distributed.rank() == 0:
            log_to_file(self.output_dir / f"{mode}.log")
        logger.info(
            "ppfacerec %s, Paddle %s, Python %s, %s, %d process%s",
            __version__, paddle.__version__, platform.python_version(), self._device.upper(),
            distributed.world_size(), "" if distributed.world_size() == 1 else "es",
        )  # fmt: skip
        if self._notes:
            logger.info("Without effect here: %s.", ", ".join(self._notes))

    def _make_demo_data(self) -> None:
        if self.config.Global.demo_data:
            from ppfacerec.data.demo_faces import make_demo_data

            if distributed.rank() == 0:
                make_demo_data(**self.config.Global.demo_data)
            distributed.barrier()

    def _recognizer(self, num_classes: Optional[int] = None) -> FaceRecognizer:
        """Backbone and, where the data's number of classes is given, the head."""
        arch = self.config.Arch
        head = HEADS.build(arch.Head, class_num=num_classes) if num_classes is not None else None
        recognizer = FaceRecognizer(BACKBONES.build(arch.Backbone), head)
        if self.config.Global.use_sync_bn and head is not None:
            recognizer.backbone = self._with_sync_bn(recognizer.backbone)
        size = sum(p.size for p in recognizer.backbone.parameters() if not p.stop_gradient)
        logger.info("Backbone %s: %.2f million trained parameters", arch.Backbone.name, size / 1e6)
        if self.config.Global.pretrained_model:
            info = info_of_config(self.config, recognizer.backbone.embedding_size)
            load_pretrained(
                recognizer, self.config.Global.pretrained_model, self.config.Global.load_head, config_info=info
            )
        is_own = {id(p) for p in recognizer.parameters() if p.is_distributed}  # this process's classes
        distributed.broadcast_tensors(t for t in recognizer.state_dict().values() if id(t) not in is_own)
        return recognizer

    def _with_sync_bn(self, backbone: nn.Layer) -> nn.Layer:
        if self._device == "gpu" and distributed.world_size() > 1:
            return nn.SyncBatchNorm.convert_sync_batchnorm(backbone)  # the keys of the state dict stay
        logger.info("Global.use_sync_bn has no effect: it is for several GPUs (Paddle has no such layer for CPUs).")
        return backbone

    def _prepare_head(self, head: nn.Layer, loader: TrainLoader) -> None:
        if isinstance(head, MarginHead):
            head.reserve(loader.sampler.global_batch_size * self.config.Global.update_freq)
            if self.config.AMP and self._device == "gpu":
                head.matmul_dtype = self.config.AMP.dtype

    def _check_memory(self, recognizer: FaceRecognizer, loader: TrainLoader) -> None:
        """Warn before the start where `ppfacerec plan` would say that it does not fit."""
        amp = self.config.AMP.level if self.config.AMP and self._device == "gpu" else None
        assert self.config.Optimizer is not None, "checked by load_config"
        size = size_of_run(
            recognizer, self.config.Arch.Backbone.name, loader.sampler.batch_size, distributed.world_size(),
            self.config.Optimizer.spec.name, amp,
        )  # fmt: skip
        memory = device_memory()
        if size.total() > memory:
            logger.warning("Memory, as `ppfacerec plan` estimates it: %s", fit(size, memory))

    def _precision(self) -> MixedPrecision:
        amp = self.config.AMP
        if amp is None:
            return MixedPrecision()
        if self._device == "cpu":
            logger.info("AMP is for GPUs: on the CPU everything is computed in float32.")
            return MixedPrecision()
        return MixedPrecision(amp.level, amp.dtype, amp.scale_loss, amp.use_dynamic_loss_scaling)

    def _evaluator(self) -> Evaluator:
        glob, section = self.config.Global, self.config.DataLoader.Eval
        metric = self.config.Metric
        assert section is not None and metric is not None, "checked by load_config"
        dataset = EVAL_DATASETS.build(section.dataset)
        logger.info("Evaluation sets: %s", dataset.describe())
        return Evaluator(
            dataset,
            Pipeline(section.transform_ops),
            METRICS.build(metric.Eval[0]),
            batch_size=section.sampler.kwargs["batch_size"],
            flip_test=glob.flip_test,
            feature_normalize=glob.feature_normalize,
            backend=glob.eval_backend,
        )

    def _save_trained_info(self, name: str, recognizer: FaceRecognizer, evaluation: Optional[Evaluation]) -> None:
        """Write beside weights of this training how images are prepared for them, and the measured thresholds."""
        if distributed.rank() == 0:
            info = info_of_config(self.config, recognizer.backbone.embedding_size)
            thresholds = thresholds_of(evaluation.results) if evaluation else {}
            dataclasses.replace(info, thresholds=thresholds).save(info_path(self.output_dir / f"{name}.pdparams"))

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
