"""Training and evaluation from a config."""

import dataclasses
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from ppfacerec.backbones import BACKBONES
from ppfacerec.config import Config, ConfigError, save_config
from ppfacerec.config.check import Mode, check_config
from ppfacerec.config.model_info import info_of_config
from ppfacerec.core import distributed
from ppfacerec.core.device.runtime import MixedPrecision, choose_device, device_memory, refuse_onednn_training
from ppfacerec.core.log import log_to_file, logger
from ppfacerec.core.version import __version__
from ppfacerec.data import EVAL_DATASETS
from ppfacerec.data.datasets.base import TrainDataset, class_identity_of
from ppfacerec.data.datasets.class_identity import ClassIdentity
from ppfacerec.data.loading.loader import TrainLoader
from ppfacerec.data.transforms.basic import Pipeline
from ppfacerec.demo.on_ranks import make_demo_data_on_each_disk
from ppfacerec.engine.agreement import check_same_config, check_same_data
from ppfacerec.engine.build import build_losses, build_optimizer, build_schedule, build_train_loader, save_plan
from ppfacerec.engine.memory_plan import TrainingSize, fit, measure_backbone
from ppfacerec.engine.results import info_of_evaluated, log_results, save_thresholds, write_report_page
from ppfacerec.engine.run_identity import facts_of_run
from ppfacerec.engine.tracking import build_visuals
from ppfacerec.evaluation.evaluator import Evaluation, Evaluator
from ppfacerec.heads import HEADS
from ppfacerec.metrics import METRICS
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.training.callbacks import CALLBACKS, Callback
from ppfacerec.training.checkpoints.files.run_lock import make_output_dir, only_run
from ppfacerec.training.checkpoints.pretrained import load_pretrained
from ppfacerec.training.checkpoints.resume import find_checkpoint, resume
from ppfacerec.training.checkpoints.saver import Saver
from ppfacerec.training.ema import EMA
from ppfacerec.training.monitoring.health import Health
from ppfacerec.training.monitoring.watchdog import Watchdog
from ppfacerec.training.replicas import ReplicaCheck
from ppfacerec.training.state import TrainState
from ppfacerec.training.stop_signals import StopSignals
from ppfacerec.training.tables import ProgressLines, Tables
from ppfacerec.training.trainer import Trainer, TrainingPlan


class Engine:
    """Builds the components of a checked config, and trains or evaluates.

    Args:
        config: from ``load_config``.
        notes: notes of ``load_config`` about keys without effect, for the log.

    Raises:
        ValueError: the device is not available.
    """

    def __init__(self, config: Config, notes: Sequence[str] = ()) -> None:
        self.config = config
        self.output_dir = Path(config.Global.output_dir)
        self._device = choose_device(config.Global.device)
        distributed.init()
        check_same_config(config)
        make_output_dir(self.output_dir)
        self._disks = distributed.find_disks(self.output_dir)
        self._notes = list(notes)

    def train(self, callbacks: Sequence[Callback] = ()) -> dict[int, Evaluation]:
        """Train from scratch, from pretrained weights or from a checkpoint; return the evaluations by epoch.

        Args:
            callbacks: in addition to those of the config.

        Raises:
            ConfigError: the config was only checked for evaluation, and is not complete for training.
        """
        self._check("train")
        refuse_onednn_training()
        with only_run(self.output_dir, self._disks.is_leader):
            return self._train(callbacks)

    def _train(self, callbacks: Sequence[Callback]) -> dict[int, Evaluation]:
        self._begin("train")
        make_demo_data_on_each_disk(self.config.Global.demo_data)
        config, glob = self.config, self.config.Global
        checkpoint = find_checkpoint(glob.checkpoints, self.output_dir, self._disks)
        loader = build_train_loader(config, self.output_dir)
        people = class_identity_of(loader.dataset)
        check_same_data(config, loader.dataset, people)
        state = self._state(loader, people)
        facts = facts_of_run(config, state.recognizer, loader, people)
        if checkpoint:
            facts = resume(checkpoint, state, facts, loader.dataset)
        if state.progress.epoch > glob.epochs:
            logger.info("All %d epochs are trained; to continue, raise Global.epochs.", glob.epochs)
        evaluator = self._evaluator() if glob.eval_during_train else None
        if evaluator:
            evaluator.check()
        if distributed.rank() == 0:
            save_config(config, self.output_dir / "config.yaml")
        spare = checkpoint.prefix if checkpoint else None
        info = info_of_config(config, state.recognizer.backbone.embedding_size)
        info = dataclasses.replace(info, classes=people.digest)
        saver = Saver(
            save_plan(glob), state, dataclasses.asdict(facts), info=info, spare=spare, can_spread=self._disks.is_shared
        )
        plan = TrainingPlan(**{field.name: getattr(glob, field.name) for field in dataclasses.fields(TrainingPlan)})
        trainer = Trainer(state, build_losses(config), loader, plan, evaluator=evaluator, saver=saver)
        try:
            evaluations = trainer.train([*self._callbacks(state, loader, evaluator, spare), *callbacks])
        finally:
            loader.close()
        log_results(self.output_dir, evaluations, state.progress)
        if evaluator and evaluations:
            epoch = max(evaluations)
            write_report_page(config, evaluations[epoch], evaluator, f"epoch {epoch}", info)
        return evaluations

    def _state(self, loader: TrainLoader, people: ClassIdentity) -> TrainState:
        """Build network, optimizer, precision and EMA for the start of a training."""
        config = self.config
        recognizer = self._recognizer(loader.dataset, people)
        amp = config.AMP if self._device == "gpu" else None
        recognizer.traits.prepare(
            loader.sampler.global_batch_size * config.Global.update_freq, amp.dtype if amp else None
        )
        self._check_memory(recognizer, loader)
        optimizer, precision = build_optimizer(config, recognizer), self._precision()
        precision.decorate(recognizer.backbone, optimizer)
        ema = EMA(recognizer, config.EMA.decay) if config.EMA else None
        return TrainState(recognizer, optimizer, build_schedule(config, loader), precision, ema)

    def _callbacks(
        self, state: TrainState, loader: TrainLoader, evaluator: Evaluator | None, checkpoint: Path | None
    ) -> list[Callback]:
        """Return the callbacks of a training in the order in which they receive events."""
        glob = self.config.Global
        num_batches, num_steps = glob.epochs * len(loader), glob.epochs * -(-len(loader) // glob.update_freq)
        health = Health(
            state, num_batches, num_steps, loader.dataset.where, self.output_dir, max_bad_steps=glob.max_bad_steps
        )
        sets = evaluator.dataset.names if evaluator else ()
        return [
            Watchdog(glob.watchdog_minutes, self.output_dir, health.record),
            StopSignals(),
            ReplicaCheck(glob.check_replicas_steps),
            ProgressLines(glob.epochs, len(loader)),
            Tables(self.output_dir, goes_on=bool(glob.checkpoints)),
            build_visuals(self.config, state, loader, sets),
            health,
            *(CALLBACKS.build(spec) for spec in glob.callbacks),
        ]

    def evaluate(self) -> Evaluation:
        """Evaluate the weights of ``Global.pretrained_model`` and write eval.json to output_dir."""
        self._check("eval")
        self._begin("eval")
        make_demo_data_on_each_disk(self.config.Global.demo_data)
        recognizer = self._recognizer()
        if self.config.Global.pretrained_model is None:
            unused = " Global.checkpoints is only for training." if self.config.Global.checkpoints else ""
            logger.warning("Global.pretrained_model is not set: these are the results of random weights.%s", unused)
        evaluator = self._evaluator()
        evaluator.check()
        evaluation = evaluator.evaluate(recognizer.backbone)
        if distributed.rank() == 0:
            evaluation.save(self.output_dir / "eval.json")
        logger.info("Evaluation\n%s", evaluation.table())
        logger.info("Written: %s", self.output_dir / "eval.json")
        name = self.config.Global.pretrained_model
        write_report_page(self.config, evaluation, evaluator, name or "random", info_of_evaluated(name))
        save_thresholds(self.config, recognizer.backbone.embedding_size, evaluation)
        return evaluation

    def _check(self, mode: Mode) -> None:
        """Check the config for this mode: it may have been loaded for another one."""
        problems = check_config(self.config, mode)
        if problems:
            raise ConfigError(problems, f"the config, which was not loaded to {mode}")

    def _begin(self, mode: str) -> None:
        paddle.seed(self.config.Global.seed)  # initial weights
        np.random.seed(self.config.Global.seed)
        if distributed.rank() == 0:
            log_to_file(self.output_dir / f"{mode}.log")
        logger.info(
            "ppfacerec %s, Paddle %s, Python %s, %s, %d process%s",
            __version__, paddle.__version__, platform.python_version(), self._device.upper(),
            distributed.world_size(), "" if distributed.world_size() == 1 else "es",
        )  # fmt: skip
        if distributed.world_size() > 1:
            shared = "share a disk" if self._disks.is_shared else "have separate disks; checkpoints are on rank 0's"
            zone = time.strftime("UTC%z")
            logger.info("Processes: %s; they %s. Times are %s.", distributed.describe_ranks(), shared, zone)
        if self._notes:
            logger.info("Keys without effect: %s.", ", ".join(self._notes))

    def _recognizer(self, dataset: TrainDataset | None = None, people: ClassIdentity | None = None) -> FaceRecognizer:
        """Build the backbone and, if there is a data set, a head for its classes."""
        arch = self.config.Arch
        head = HEADS.build(arch.Head, class_num=dataset.num_classes) if dataset is not None else None
        recognizer = FaceRecognizer(BACKBONES.build(arch.Backbone), head)
        if self.config.Global.use_sync_bn and head is not None:
            recognizer.backbone = self._with_sync_bn(recognizer.backbone)
        size = sum(p.size for p in recognizer.backbone.parameters() if not p.stop_gradient)
        logger.info("Backbone %s: %.2f million trained parameters", arch.Backbone.name, size / 1e6)
        if self.config.Global.pretrained_model:
            info = info_of_config(self.config, recognizer.backbone.embedding_size)
            load_pretrained(recognizer, self.config.Global.pretrained_model, self.config.Global.load_head,
                            config_info=info, people=people, dataset=dataset)  # fmt: skip
        is_own = {id(p) for p in recognizer.parameters() if p.is_distributed}  # this rank's shard of the classes
        distributed.broadcast_tensors(t for t in recognizer.state_dict().values() if id(t) not in is_own)
        return recognizer

    def _with_sync_bn(self, backbone: nn.Layer) -> nn.Layer:
        if self._device == "gpu" and distributed.world_size() > 1:
            return nn.SyncBatchNorm.convert_sync_batchnorm(backbone)  # keeps the keys of the state dict
        logger.info("Global.use_sync_bn has no effect: it is for several GPUs (Paddle has no SyncBatchNorm for CPUs).")
        return backbone

    def _check_memory(self, recognizer: FaceRecognizer, loader: TrainLoader) -> None:
        """Warn before the start if `ppfacerec plan` estimates that the run does not fit."""
        config, backbone, head = self.config, recognizer.backbone, recognizer.traits
        assert config.Optimizer is not None, "checked by load_config"
        size = TrainingSize(
            measure_backbone(backbone, config.Arch.Backbone.name),
            class_num=head.class_num or 0,
            embedding_size=backbone.embedding_size,
            batch_size=loader.sampler.batch_size,
            num_gpus=distributed.world_size(),
            class_parallel=head.class_rows is not None and head.class_rows.shard.world_size > 1,
            sample_rate=head.sample_rate,
            num_sub_centers=head.num_sub_centers,
            optimizer=config.Optimizer.spec.name,
            amp=config.AMP.level if config.AMP and self._device == "gpu" else None,
            recompute=getattr(backbone, "recompute", False),
        )
        memory = device_memory()
        if size.total() > memory:
            logger.warning("Memory, estimated by `ppfacerec plan`: %s", fit(size, memory))

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
