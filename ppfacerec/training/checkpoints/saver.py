"""Decide when to save which checkpoints, save them in the background, one at a time, and remove old ones."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ppfacerec.core import distributed
from ppfacerec.core.log import logger
from ppfacerec.metrics.evaluation import Evaluation
from ppfacerec.training.checkpoints.checkpoint import complete, gather_entries, write_snapshot
from ppfacerec.training.checkpoints.files.checkpoint_files import (
    NUMBERED,
    complete_names,
    discard_new,
    remove_checkpoint,
)
from ppfacerec.training.checkpoints.files.disk_space import size_text
from ppfacerec.training.checkpoints.snapshot import HeadFiles, Snapshot, take_snapshot
from ppfacerec.training.state import TrainState
from ppfacerec.weights.info import ModelInfo, thresholds_of

# A head.weight larger than this is saved in one file per rank.
SHARD_FROM_BYTES = 1 << 30


@dataclass(frozen=True)
class SavePlan:
    """The keys of ``Global`` about saving; see docs/config.md."""

    output_dir: Path
    save_interval: int
    save_interval_steps: int
    save_interval_minutes: float
    keep_last: int
    save_in_background: bool
    save_head: bool | Literal["shards"]


class _Save(NamedTuple):
    """A running save of one snapshot under these names; the future returns the manifest entries of each."""

    names: tuple[str, ...]
    snapshot: Snapshot
    entries: Future[dict[str, dict[str, Any]]]


class Saver:
    """Save the checkpoints of a training. As a context manager, it finishes pending writes at the end.

    Args:
        plan: when, where and how to save.
        state: what to save.
        facts: plain values that every checkpoint contains unchanged.
        info: how to use the weights, with thresholds once they are measured; None writes no info file.
        spare: a checkpoint that is never removed, because training resumed from it.
        can_spread: all ranks write to one disk, so that each may write a part of the head; else rank 0 writes it all.
    """

    def __init__(
        self, plan: SavePlan, state: TrainState, facts: Mapping[str, Any], *,
        info: ModelInfo | None = None, spare: Path | None = None, can_spread: bool = True,
    ) -> None:  # fmt: skip
        self._can_spread, self._info = can_spread, info
        self.plan, self._state, self._facts, self._spare = plan, state, facts, spare and spare.resolve()
        self._completed: list[str] = []
        self._is_main = distributed.rank() == 0
        self._running: _Save | None = None
        self._thread = ThreadPoolExecutor(1, "saving")
        self._saved_at = time.monotonic()

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self.finish()
            elif self._running:  # the other ranks may be gone: avoid communication
                self._finish_alone(self._running)
        finally:
            self._thread.shutdown()

    def after_step(self, stop: bool) -> bool:
        """Save what is due after an optimizer step; if a rank is asked to stop, save `latest` and return True."""
        busy = self._running is not None and not self._running.entries.done()
        stop, busy, failed, due = distributed.any_ranks([stop, busy, self._has_failed(), self._minutes_are_up()])
        if failed or not busy:
            self.finish()
        steps, done = self.plan.save_interval_steps, self._state.progress.global_step
        numbered = [f"step_{done}"] if steps and done % steps == 0 else []
        if numbered or due or stop:
            self.save(*numbered, *(["latest"] if due or stop else []))
        if stop:
            self.finish()
        return stop

    def before_evaluation(self) -> None:
        """Save `latest`, because an evaluation may outlast the time limit of a requested stop."""
        self.save("latest")
        if self._running is not None and self._running.snapshot.is_spread:
            self.finish()  # completing it needs all ranks, which are about to be busy

    def after_epoch(self, epoch: int, is_last: bool, evaluation: Evaluation | None = None) -> None:
        """Save `latest`, and `epoch_N` if it is due; `evaluation` is of the current weights, or None."""
        is_due = epoch % self.plan.save_interval == 0 or is_last
        self.save("latest", *([f"epoch_{epoch}"] if is_due else []), evaluation=evaluation)

    def save(self, *names: str, evaluation: Evaluation | None = None) -> None:
        """Save the current state, after the previous save. All ranks call it between two optimizer steps.

        Args:
            evaluation: of exactly these weights: its thresholds go beside them.

        Raises:
            ValueError: the previous save, or this one in the foreground, failed.
        """
        self.finish()
        began, info = time.perf_counter(), self._info
        if info is not None and evaluation is not None:
            info = replace(info, thresholds=thresholds_of(evaluation.results))
        snapshot = take_snapshot(self._state, self._facts, self._head_files(names), info)
        logger.debug("Snapshot for %s: %.2f s", " and ".join(names), time.perf_counter() - began)
        self._running = _Save(names, snapshot, self._thread.submit(self._write, names, snapshot))
        if not self.plan.save_in_background:
            self.finish()
        if names != ("best_model",):
            self._saved_at = time.monotonic()

    def finish(self) -> None:
        """Wait for the running save, if any; raise a ValueError if it failed on any rank. All ranks call it."""
        if self._running is None:
            return
        save, self._running = self._running, None
        try:
            with distributed.failing_together():
                entries = save.entries.result()
            if save.snapshot.is_spread:
                self._complete_together(save, entries)
        except BaseException:
            if save.snapshot.is_spread:
                self._discard(save)
            raise
        self._completed += save.names

    def completed(self) -> list[str]:
        """Return the names of checkpoints completed since the last call."""
        names, self._completed = self._completed, []
        return names

    def _head_files(self, names: tuple[str, ...]) -> HeadFiles:
        rows = self._state.head.class_rows
        if rows is None:
            return "whole"
        if names == ("best_model",) and self.plan.save_head is False:
            return "none"
        is_large = 4 * math.prod(rows.saved_shape) > SHARD_FROM_BYTES
        return "shards" if self._can_spread and (self.plan.save_head == "shards" or is_large) else "whole"

    def _write(self, names: tuple[str, ...], snapshot: Snapshot) -> dict[str, dict[str, Any]]:
        """Write in the background thread, without communication between ranks."""
        entries = {}
        for name in names:
            prefix, began = self.plan.output_dir / name, time.perf_counter()
            entries[name] = write_snapshot(prefix, snapshot)
            if self._is_main and not snapshot.is_spread:
                complete(prefix, snapshot, entries[name])
                self._log_saved(name, snapshot, time.perf_counter() - began)
        if not snapshot.is_spread:
            self._remove_old(snapshot.run)
        return entries

    def _complete_together(self, save: _Save, entries: Mapping[str, Mapping[str, Any]]) -> None:
        gathered = [gather_entries(entries[name]) for name in save.names]
        with distributed.failing_together():
            for name, of_all in zip(save.names, gathered) if self._is_main else ():
                complete(self.plan.output_dir / name, save.snapshot, of_all)
                self._log_saved(name, save.snapshot, None)
            self._remove_old(save.snapshot.run)

    def _log_saved(self, name: str, snapshot: Snapshot, seconds: float | None) -> None:
        took = "" if seconds is None else f" in {seconds:.1f} s"
        logger.info("Saved %s: %s%s", self.plan.output_dir / name, size_text(snapshot.num_bytes()), took)

    def _remove_old(self, run: str) -> None:
        """Remove all but the newest `keep_last` of this training's step_N and epoch_N."""
        if not self.plan.keep_last or not self._is_main:
            return
        found = complete_names(self.plan.output_dir).items()
        own = [name for name, manifest in found if NUMBERED.fullmatch(name) and manifest.run == run]
        for name in own[self.plan.keep_last :]:
            if (self.plan.output_dir / name).resolve() != self._spare:
                remove_checkpoint(self.plan.output_dir / name)

    def _has_failed(self) -> bool:
        running = self._running
        return running is not None and running.entries.done() and running.entries.exception() is not None

    def _minutes_are_up(self) -> bool:
        minutes = self.plan.save_interval_minutes
        return self._is_main and minutes > 0 and time.monotonic() - self._saved_at >= 60 * minutes

    def _finish_alone(self, save: _Save) -> None:
        """Wait for the thread; complete the checkpoint only if that needs no other ranks."""
        self._running = None
        failure = save.entries.exception()
        if failure is not None:
            logger.error("%s", failure)
        if save.snapshot.is_spread:
            self._discard(save)

    def _discard(self, save: _Save) -> None:
        for name in save.names:
            discard_new(self.plan.output_dir / name, save.snapshot.files)


class NoSaver(Saver):
    """A saver that saves nothing."""

    def __init__(self, state: TrainState) -> None:
        super().__init__(SavePlan(Path(), 1, 0, 0.0, 0, False, True), state, {})

    def save(self, *names: str, evaluation: Evaluation | None = None) -> None:
        return None
