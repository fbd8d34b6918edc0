"""Evaluation of other programs' embeddings from an .npz file; needs neither Paddle nor a config."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ppfacerec.core.io.npz_file import read_npz
from ppfacerec.core.log import logger
from ppfacerec.metrics import VerificationResult, evaluate, normalize
from ppfacerec.metrics.evaluation import Evaluation
from ppfacerec.metrics.pair_embeddings import row_lengths

EXPECTED = (
    "Expected what np.savez(path, embeddings=..., is_same=...) writes: embeddings (2N, D), rows 2i and 2i + 1 being "
    "pair i, and is_same (N,) of True and False."
)


@dataclass(frozen=True, eq=False)
class EmbeddingsFile:
    """Content of an embeddings file: embeddings (2N, D), is_same (N,) and, optionally, identities (2N,)."""

    path: str
    embeddings: np.ndarray
    is_same: np.ndarray
    identities: Sequence[str] | None

    def evaluate(self) -> VerificationResult:
        """Normalise every row, as is done after the flip sum, and score the pairs.

        Raises:
            ValueError: as ``metrics.evaluate``, with the file's name.
        """
        lengths = row_lengths(self.embeddings)
        if len(lengths) and not np.allclose(lengths, 1, atol=1e-3):
            logger.info(
                "%s: the rows' lengths are %.4g to %.4g; every row is normalised to 1.",
                self.path, lengths.min(), lengths.max(),
            )  # fmt: skip
        try:
            result = evaluate(normalize(self.embeddings), self.is_same)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error
        for doubt in result.doubts:
            logger.warning("%s: %s", self.path, doubt)
        return replace(result, xnorm=float(lengths.mean()))


def evaluate_files(paths: Sequence[str], output_dir: Path, report: bool) -> Evaluation:
    """Score each file as a set named after it; write eval.json and, if `report`, the report.

    Raises:
        ValueError: a file is malformed, or two have the same name.
    """
    results: dict[str, VerificationResult] = {}
    identities: dict[str, Sequence[str]] = {}
    for path in paths:
        name, file = Path(path).stem, read_embeddings(path)
        if name in results:
            raise ValueError(f"--embeddings: two files are named '{name}', the name of the set. Rename one.")
        results[name] = file.evaluate()
        if file.identities is not None:
            identities[name] = file.identities
    pairs = [result.is_same.tobytes() for result in results.values()]
    evaluation = Evaluation(results, is_one_model=len(set(pairs)) == len(pairs))  # equal pairs: several models
    output_dir.mkdir(parents=True, exist_ok=True)
    evaluation.save(output_dir / "eval.json")
    logger.info("Evaluation\n%s", evaluation.table())
    logger.info("Written: %s", output_dir / "eval.json")
    if report:
        from ppfacerec.evaluation.report import write_report

        facts = {"embeddings": ", ".join(map(str, paths))}
        page = write_report(output_dir / "report", evaluation, identities=identities, facts=facts)
        logger.info("Written: %s", page)
    return evaluation


def read_embeddings(path: str) -> EmbeddingsFile:
    """Read an untrusted .npz of embeddings; pickles in it are not executed.

    Raises:
        ValueError: the file is missing or not an .npz, a key is missing, object arrays, wrong shapes or types.
    """
    try:
        arrays, there = read_npz(path, ("embeddings", "is_same", "identities"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error}). {EXPECTED}") from error
    except ValueError as error:
        raise ValueError(f"{path}: not an .npz of numbers ({error}). {EXPECTED}") from error
    missing = [key for key in ("embeddings", "is_same") if key not in arrays]
    if missing:
        raise ValueError(f"{path}: has no {' and no '.join(missing)}, only {', '.join(there) or 'nothing'}. {EXPECTED}")
    embeddings, identities = arrays["embeddings"], arrays.get("identities")
    if embeddings.ndim != 2 or embeddings.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: embeddings has shape {list(embeddings.shape)} and dtype {embeddings.dtype}, expected real "
            "numbers of shape [2N, D]; rows 2i and 2i + 1 are pair i."
        )
    if identities is not None and (identities.dtype.kind not in "USiu" or identities.shape != embeddings.shape[:1]):
        raise ValueError(
            f"{path}: identities has shape {list(identities.shape)} and dtype {identities.dtype}, expected a name or a "
            f"number for each of the {len(embeddings)} rows of embeddings."
        )
    names = None if identities is None else [str(identity) for identity in identities.tolist()]
    return EmbeddingsFile(path, embeddings, arrays["is_same"], names)
