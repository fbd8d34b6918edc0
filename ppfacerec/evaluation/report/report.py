"""Report of an evaluation: eval.json, the plots as PNG, and a self-contained index.html."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ppfacerec.core.io.atomic_file import atomic_write, atomic_write_text
from ppfacerec.core.printable import printable, without_secrets
from ppfacerec.core.version import __version__
from ppfacerec.data.pairs.pair_set import EvalDataset
from ppfacerec.evaluation.report.hardest import HardPair, data_uri, errors, hardest_pairs
from ppfacerec.evaluation.report.plots import DARK, LIGHT, Theme, draw_roc, draw_scores
from ppfacerec.metrics import VerificationResult
from ppfacerec.metrics.bootstrap import CONFIDENCE, MIN_FALSE_ACCEPTS, NUM_RESAMPLES
from ppfacerec.metrics.evaluation import Evaluation, json_key, or_na
from ppfacerec.metrics.roc import far_name, one_in
from ppfacerec.metrics.threshold_card import ThresholdCard, threshold_card

_LONGEST_NAME = 200  # bytes of a set's name in a file name, which may have 255
TEMPLATE = Path(__file__).with_name("page.html")
THEMES = {"light": LIGHT, "dark": DARK}


@dataclass(frozen=True)
class SetReport:
    """One set's part of the page."""

    name: str
    result: VerificationResult
    card: ThresholdCard
    false_accepts: list[HardPair]
    false_rejects: list[HardPair]
    num_false_accepts: int
    num_false_rejects: int
    plots: Mapping[str, str]  # "light" and "dark": data URIs

    def to_json(self) -> dict[str, Any]:
        return {
            "threshold_card": self.card.to_json(),
            "false_accepts": self.num_false_accepts,
            "false_rejects": self.num_false_rejects,
            "hardest_false_accepts": [pair.to_json() for pair in self.false_accepts],
            "hardest_false_rejects": [pair.to_json() for pair in self.false_rejects],
        }


def write_report(
    folder: Path,
    evaluation: Evaluation,
    dataset: EvalDataset | None = None,
    *,
    identities: Mapping[str, Sequence[str]] | None = None,
    facts: Mapping[str, str] | None = None,
    faces: bool = True,
) -> Path:
    """Write the report of an evaluation and return the path of its index.html.

    Args:
        dataset: the sets, opened again one by one for images and names; None if there are only embeddings.
        identities: set -> identities of images 2i and 2i + 1 of pair i, if there is no `dataset` with them.
        facts: what was evaluated, label -> text, for the top of the page.
        faces: show the hardest pairs' images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sets = []
    for number, (name, result) in enumerate(evaluation.results.items(), 1):
        pairs, who = dataset.open(name) if dataset else None, (identities or {}).get(name)
        if pairs is not None and pairs.identities is not None:
            who = [pairs.identities[image] for image in pairs.index]
        is_short, wrong = len(os.fsencode(name)) <= _LONGEST_NAME, errors(result)
        one = SetReport(
            name=name,
            result=result,
            card=threshold_card(result, who),
            false_accepts=hardest_pairs(result, pairs, is_same=False, faces=faces),
            false_rejects=hardest_pairs(result, pairs, is_same=True, faces=faces),
            num_false_accepts=int(np.sum(wrong & ~result.is_same)),
            num_false_rejects=int(np.sum(wrong & result.is_same)),
            plots=_plot(folder / f"scores_{name if is_short else number}.png", partial(draw_scores, result)),
        )
        sets.append(one)
    content = evaluation.to_json()
    for part in sets:
        content[json_key(part.name)].update(part.to_json())
    with atomic_write_text(folder / "eval.json") as file:
        file.write(json.dumps(content, indent=2) + "\n")
    roc = _plot(folder / "roc.png", partial(draw_roc, evaluation.results))
    page = folder / "index.html"
    with atomic_write_text(page) as file:
        file.write(_render(evaluation, sets, roc, facts or {}))
    return page


def _plot(path: Path, draw: Callable[[Theme], bytes]) -> dict[str, str]:
    """Write the light plot to a file, and return both as data URIs."""
    drawn = {name: draw(theme) for name, theme in THEMES.items()}
    with atomic_write(path) as file:
        file.write(drawn["light"])
    return {name: data_uri(png, "image/png") for name, png in drawn.items()}


def _render(evaluation: Evaluation, sets: Sequence[SetReport], roc: Mapping[str, str], facts: Mapping[str, str]) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    environment.filters.update(na=or_na, far=far_name, one_in=one_in, percent=_percent)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        evaluation=evaluation,
        sets=sets,
        roc=roc,
        facts={**facts, "written": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")},
        version=__version__,
        confidence=f"{100 * CONFIDENCE:.0f}",
        resamples=f"{NUM_RESAMPLES:,}",
        least_false_accepts=MIN_FALSE_ACCEPTS,
    )


def _shown(value: Any) -> Any:
    """Escape text such as names from files; what the template marks as safe is of another type."""
    return printable(without_secrets(value), keep="\n") if type(value) is str else value


def _percent(value: float | None, digits: int = 2) -> str:
    return "n/a" if value is None else f"{100 * value:.{digits}f}"
