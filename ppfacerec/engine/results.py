"""Output of a training or an evaluation: tables in the log, the report page, the thresholds."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from ppfacerec.config import Config, weights_file
from ppfacerec.config.model_info import info_of_config
from ppfacerec.core import distributed
from ppfacerec.core.log import logger, table
from ppfacerec.evaluation.evaluator import Evaluation, Evaluator
from ppfacerec.training.state import Progress
from ppfacerec.weights.info import ModelInfo, info_beside, info_path, thresholds_of
from ppfacerec.weights.zoo import ZOO


def log_results(output_dir: Path, evaluations: Mapping[int, Evaluation], progress: Progress) -> None:
    """Log accuracy by epoch, the last evaluation, and which files were written."""
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
    written = [str(output_dir / name) for name in names if (output_dir / name).is_file()]
    logger.info("Written:\n%s", "\n".join(f"  {path}" for path in written))


def write_report_page(
    config: Config, evaluation: Evaluation, evaluator: Evaluator, weights: str, info: ModelInfo | None
) -> None:
    """Write the report of `weights` (a description; `info` has the origin) on rank 0, if ``Global.report``."""
    glob = config.Global
    if not glob.report or distributed.rank() != 0:
        return
    from ppfacerec.evaluation.report import write_report  # imports matplotlib, an extra

    facts = {
        "weights": weights,
        "backbone": config.Arch.Backbone.name,
        "flip test": "yes" if glob.flip_test else "no",
    }
    for label in ("training_data", "source", "licence"):
        if getattr(info, label, None):
            facts[label.replace("_", " ")] = getattr(info, label)
    folder = Path(glob.output_dir) / "report"
    page = write_report(folder, evaluation, evaluator.dataset, facts=facts, faces=glob.report_faces)
    logger.info("Written: %s", page)


def info_of_evaluated(name: str | None) -> ModelInfo | None:
    """Return the info of weights from the zoo or from the file beside them."""
    zoo = ZOO.get(name or "")
    if zoo:
        who = zoo.publisher
        return ModelInfo({}, 1, training_data=zoo.training_data, source=who.name, licence=who.licence)
    return info_beside(weights_file(name)) if name else None


def save_thresholds(config: Config, embedding_size: int, evaluation: Evaluation) -> None:
    """Save measured thresholds in the info file beside the weights; those of other sets are kept."""
    weights = Path(weights_file(config.Global.pretrained_model or ""))
    if distributed.rank() != 0 or not weights.is_file() or not config.Global.save_thresholds:
        return  # a model of the zoo has no folder of its own
    used = info_of_config(config, embedding_size)
    info = info_beside(weights) or dataclasses.replace(used, training_data=None, config=None)
    way = {name: getattr(used, name) for name in ("flip_test", "feature_normalize")}
    earlier = info.thresholds if all(getattr(info, name) == value for name, value in way.items()) else {}
    info = dataclasses.replace(info, **way, thresholds={**earlier, **thresholds_of(evaluation.results)})
    if info.mismatches(used):
        logger.warning(
            "The thresholds are not saved in %s: it describes another preprocessing of the images.", info_path(weights)
        )
        return
    try:
        path = info.save_beside(weights)
    except OSError as error:
        logger.warning("%s cannot be written (%s): the thresholds are not saved.", info_path(weights), error)
        return
    logger.info("Thresholds written beside the weights: %s (Global.save_thresholds: False disables this)", path)
