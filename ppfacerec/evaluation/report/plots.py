"""Plots of the report, drawn by matplotlib without a display, for light and for dark pages."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppfacerec.core.printable import printable
from ppfacerec.metrics import VerificationResult


@dataclass(frozen=True)
class Theme:
    """Colours of one page; the lines are distinguishable with any colour vision (Okabe and Ito)."""

    background: str
    text: str
    grid: str
    same: str
    different: str
    lines: tuple[str, ...]


LIGHT = Theme("#ffffff", "#1f2328", "#dfe3e8", "#0072b2", "#d55e00",
              ("#0072b2", "#d55e00", "#009e73", "#b0388a", "#8a6d00", "#3a3a3a"))  # fmt: skip
DARK = Theme("#1b1f24", "#e6e8eb", "#3a4048", "#56b4e9", "#f0984a",
             ("#56b4e9", "#f0984a", "#2fc79a", "#e08cc8", "#f0e442", "#c9ccd1"))  # fmt: skip
_DASHES = ("-", "--", "-.", ":")
_FONT = "DejaVu Sans"  # comes with matplotlib


def draw_roc(results: Mapping[str, VerificationResult], theme: Theme) -> bytes:
    """Return a PNG of the exact ROC curves over a logarithmic FAR; sets with one kind of pairs have none."""
    curves = {name: result.roc for name, result in results.items() if result.roc}
    left = min(1 / roc.num_different for roc in curves.values()) if curves else 1e-3
    left = 10.0 ** np.floor(np.log10(left))
    lowest = 1.0
    families, names = drawable(list(curves))
    with _figure(theme, 5.6, 4.0) as (figure, axes):
        for k, (name, roc) in enumerate(zip(names, curves.values())):
            colour, dash = theme.lines[k % len(theme.lines)], _DASHES[k // len(theme.lines) % len(_DASHES)]
            shown = np.flatnonzero(roc.fpr == 0)[-1]  # on a logarithmic axis, FAR 0 is at the left border
            far, tar = np.maximum(roc.fpr[shown:], left), roc.tpr[shown:]
            label = f"{name} (AUC {roc.auc():.4f})"
            axes.step(far, tar, where="post", color=colour, linestyle=dash, linewidth=1.8, label=label)
            first = roc.at_far(1 / roc.num_different)
            assert first is not None, "one false accept is always allowed at this rate"
            axes.plot(1 / roc.num_different, first.tar, "o", color=colour, markersize=4)
            lowest = min(lowest, float(tar[0]))
        axes.set(
            xscale="log", xlim=(left, 1), ylim=(max(0.0, lowest - 0.05), 1.005),
            xlabel="false accept rate (FAR)", ylabel="true accept rate (TAR)",
        )  # fmt: skip
        if curves:
            axes.legend(
                loc="lower right", facecolor=theme.background, edgecolor=theme.grid, labelcolor=theme.text,
                prop={"family": families},
            )  # fmt: skip
        else:
            axes.text(0.5, 0.5, "n/a: no set has both kinds of pairs", transform=axes.transAxes, ha="center",
                      color=theme.text)  # fmt: skip
        return _png(figure)


def draw_scores(result: VerificationResult, theme: Theme) -> bytes:
    """Return a PNG of the cosine histograms of both kinds of pairs, with the threshold; upper axis: squared L2."""
    cosines = 1 - result.distances / 2
    low, high = np.floor(cosines.min() * 20) / 20, np.ceil(cosines.max() * 20) / 20
    bins = np.linspace(low, max(high, low + 0.05), 61)
    with _figure(theme, 5.6, 3.6) as (figure, axes):
        for kind, colour, label in (
            (result.is_same, theme.same, "same person"),
            (~result.is_same, theme.different, "different people"),
        ):
            if kind.any():
                weights = np.full(int(kind.sum()), 100 / kind.sum())
                axes.hist(cosines[kind], bins, weights=weights, histtype="stepfilled", color=colour, alpha=0.3)
                axes.hist(cosines[kind], bins, weights=weights, histtype="step", color=colour, linewidth=1.6,
                          label=f"{label} ({kind.sum():,})")  # fmt: skip
        threshold = result.cosine_threshold
        axes.axvline(threshold, color=theme.text, linestyle="--", linewidth=1.4, label=f"threshold {threshold:.3f}")
        axes.set(xlabel="cosine similarity", ylabel="% of pairs of each kind", xlim=(bins[0], bins[-1]))
        upper = axes.secondary_xaxis("top", functions=(lambda c: 2 - 2 * c, lambda d: 1 - d / 2))
        upper.set_xlabel("squared L2 distance", color=theme.text)
        upper.tick_params(colors=theme.text)
        upper.spines["top"].set_color(theme.grid)
        figure.legend(
            loc="outside lower center", ncols=3, frameon=False, labelcolor=theme.text, fontsize="small",
            handlelength=1.4, columnspacing=1.2,
        )  # fmt: skip
        return _png(figure)


def drawable(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return installed font families that have the names' letters, and the names in a form that matplotlib draws.

    A name with letters of no font becomes "set 2" (its number); "$" is escaped; a leading "_" is put after a space,
    since matplotlib hides such names in a legend.
    """
    from matplotlib import font_manager, ft2font

    shown = [printable(name) for name in names]
    families, missing = list[str](), set("".join(shown))
    fonts = (font for font in font_manager.fontManager.ttflist if not font.name.startswith("Last Resort"))  # only boxes
    for font in sorted(fonts, key=lambda font: font.name != _FONT):
        if not missing:
            break
        if font.name not in families:
            has = missing & {chr(code) for code in ft2font.FT2Font(font.fname).get_charmap()}
            families += [font.name] if has else []
            missing -= has
    texts = [f"set {k}" if missing & set(name) else name for k, name in enumerate(shown, 1)]
    return families or [_FONT], [" " * name.startswith("_") + name.replace("$", r"\$") for name in texts]


@contextmanager
def _figure(theme: Theme, width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """Make a figure without pyplot: no display, no global state and nothing to close."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor=theme.background, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=theme.background)
    axes.grid(color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.text, which="both")
    axes.xaxis.label.set_color(theme.text)
    axes.yaxis.label.set_color(theme.text)
    for side, spine in axes.spines.items():
        spine.set_color(theme.grid)
        spine.set_visible(side in ("left", "bottom"))
    yield figure, axes


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return buffer.getvalue()
