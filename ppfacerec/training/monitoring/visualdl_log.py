"""Records for VisualDL. Their errors never end a training; only the first is logged."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from ppfacerec.core.log import logger

_FEWEST_BINS, _MOST_BINS = 10, 50  # per histogram


class VisualDLLog:
    """Write the records that ``visualdl --logdir`` shows; VisualDL writes in its own thread.

    Args:
        folder: used by this run only, as VisualDL shows one file per folder; None, or a failed import of VisualDL,
            disables recording.
    """

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        self._has_failed = False
        if folder is None:
            return
        try:
            from visualdl import LogWriter
        except ImportError as error:
            self._disable(f"cannot be imported ({error}). To install it: pip install visualdl")
            return
        except Exception as error:  # installed, but incompatible with the installed protobuf or NumPy
            self._disable(
                f"is installed but fails when it is imported ({type(error).__name__}: {_first_line(error)}). A newer "
                "version may work: pip install --upgrade visualdl"
            )
            return
        with self.warn_once():
            folder.mkdir(parents=True, exist_ok=True)  # raises here: VisualDL's thread would only print the error
            with redirect_stdout(io.StringIO()):  # suppresses its message "`...` is exists"
                self._writer = LogWriter(logdir=str(folder))

    def __bool__(self) -> bool:
        return self._writer is not None

    @contextmanager
    def warn_once(self) -> Iterator[None]:
        """Suppress exceptions and warn of the first: for drawing and writing only, never for training."""
        try:
            yield
        except Exception as error:
            if not self._has_failed:
                logger.warning(
                    "VisualDL: a record could not be written (%s: %s); training goes on, further failures are not "
                    "reported.", type(error).__name__, _first_line(error),
                )  # fmt: skip
            self._has_failed = True

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._add("scalar", tag=_tag(name), value=value, step=step)

    def image(self, name: str, picture: np.ndarray, step: int) -> None:
        """Add an image (H, W, 3), uint8 RGB."""
        self._add("image", tag=_tag(name), img=picture, step=step)

    def histogram(self, name: str, values: np.ndarray, step: int) -> None:
        """Add the distribution of the finite numbers among `values`."""
        values = values[np.isfinite(values)]
        if values.size:
            bins = min(max(_FEWEST_BINS, round(2 * math.sqrt(values.size))), _MOST_BINS)
            self._add("histogram", tag=_tag(name), values=values, step=step, buckets=bins)

    def embeddings(self, name: str, vectors: np.ndarray, columns: Mapping[str, Sequence[str]]) -> None:
        """Add points to the projector; VisualDL shows only the first record of a name.

        Args:
            vectors: (N, D).
            columns: labels of the points: title -> N words.
        """
        self._add(
            "embeddings", tag=_tag(name), mat=vectors, metadata=[list(column) for column in columns.values()],
            metadata_header=list(columns),
        )  # fmt: skip

    def hyper_parameters(self, values: Mapping[str, Any], metrics: Sequence[str]) -> None:
        """Record hyper-parameters; `metrics` are names of scalars whose last values are shown."""
        self._add("hparams", hparams_dict=dict(values), metrics_list=[_tag(name) for name in metrics])

    def close(self) -> None:
        """Flush and close."""
        if self._writer is not None:
            with self.warn_once():
                self._writer.close()
            self._writer = None

    def _add(self, kind: str, **record: Any) -> None:
        if self._writer is not None:
            with self.warn_once():
                getattr(self._writer, f"add_{kind}")(**record)

    def _disable(self, reason: str) -> None:
        logger.warning("Global.use_visualdl is on, but VisualDL %s. Training goes on without it.", reason)


def _tag(name: str) -> str:
    return name.replace("%", "_")  # VisualDL uses "%" for "/"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
