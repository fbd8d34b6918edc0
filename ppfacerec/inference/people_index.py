"""An index of people by embeddings: enrolled from images, searched exactly, stored in one .npz without pickles."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppfacerec.core.io.atomic_file import atomic_write
from ppfacerec.core.io.npz_file import read_npz
from ppfacerec.core.ranges import is_number, require_count
from ppfacerec.inference.face_model import FaceModel
from ppfacerec.inference.image_facts import similar_pairs
from ppfacerec.inference.parity import spread_pixels
from ppfacerec.metrics import normalize
from ppfacerec.metrics.pair_embeddings import check_unit_rows

UNKNOWN = "unknown"
_SAME_MODEL = 0.999  # least cosine of the probe's embeddings by one network in two formats
_KEYS = ("embeddings", "names", "files", "probe", "nearest_others", "model")
_CALIBRATION_IMAGES = 2000
_ALIKE = 0.5  # least cosine of a person's typical images to the person's centre
_SAME_IMAGE = 0.95  # else: least cosine of the centres of one person under two names
_MOST_PEOPLE_COMPARED = 50_000
_BLOCK = 64  # images compared with all others at a time


@dataclass(frozen=True)
class Match:
    """A person found, with the cosine of the person's nearest image."""

    name: str
    cosine: float
    file: str


class PeopleIndex:
    """Embeddings of named people.

    Args:
        embeddings: (N, D) float32, rows of length 1.
        names: the person of each row.
        files: the image of each row.
        probe: (D,) the model's embedding of a fixed image, which identifies the model later.
        model: the model's name, for messages.
        nearest_others: cosines of up to 2,000 images to the nearest image of another person; computed unless given.

    Raises:
        ValueError: lengths disagree, or there is no embedding.
    """

    def __init__(
        self,
        embeddings: np.ndarray,
        names: Sequence[str],
        files: Sequence[str],
        probe: np.ndarray,
        model: str,
        *,
        nearest_others: np.ndarray | None = None,
    ) -> None:
        embeddings = check_unit_rows("embeddings", embeddings)
        if embeddings.ndim != 2 or not 0 < len(names) == len(files) == len(embeddings):
            raise ValueError(
                f"{len(embeddings)} embeddings, {len(names)} names and {len(files)} files: expected equal numbers, and "
                "at least one."
            )
        order = np.argsort(np.asarray(names), kind="stable")
        self.embeddings = np.ascontiguousarray(embeddings[order])
        self.names, self.files = np.asarray(names)[order], np.asarray(files)[order]
        self.probe, self.model = check_unit_rows("probe", probe), model
        if self.probe.shape != embeddings.shape[1:]:
            raise ValueError(f"probe: expected shape {list(embeddings.shape[1:])}, found {list(self.probe.shape)}.")
        self._starts = np.flatnonzero(np.r_[True, self.names[1:] != self.names[:-1]])  # first row of each person
        self.same_people: list[tuple[str, str]] = []  # names that probably are one person, if made from images
        self.nearest_others = self._nearest_others() if nearest_others is None else np.asarray(nearest_others)
        if self.nearest_others.ndim != 1 or not (np.abs(self.nearest_others) <= 1.001).all():  # NaN is not
            raise ValueError("nearest_others: expected cosines (M,), from -1 to 1.")

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def num_people(self) -> int:
        return len(self._starts)

    def threshold(self, stranger_rate: float = 1e-2) -> float | None:
        """Return the cosine that at most this share of strangers reaches, or None with too few images.

        A stranger is compared with every image, so that a threshold for pairs is too low here: at a FAR of 1e-3 and
        1,000 images most strangers would be accepted. It is estimated from the enrolled images, each of which is a
        stranger to the other people. `stranger_rate` is the false positive identification rate.
        """
        count = len(self.nearest_others)
        if not is_number(stranger_rate, 0, 1) or stranger_rate in (0, 1):
            raise ValueError(f"stranger_rate: expected a number between 0 and 1, found {stranger_rate!r}.")
        if count * stranger_rate < 1:
            return None
        return float(np.sort(self.nearest_others)[count - 1 - int(count * stranger_rate)])

    def search(self, embedding: np.ndarray, top: int = 5) -> list[Match]:
        """Return the people nearest to an embedding (D,), in order, each by the nearest image; the search is exact.

        Raises:
            ValueError: the embedding's size differs from the index's, or its length is not 1.
        """
        cosines = self.embeddings @ self.check_probe(embedding)
        by_person = np.maximum.reduceat(cosines, self._starts)
        top = min(require_count("top", top), len(by_person))
        best = np.argpartition(-by_person, top - 1)[:top]
        best = best[np.argsort(-by_person[best], kind="stable")]
        ends = np.r_[self._starts[1:], len(self)]
        rows = [start + int(np.argmax(cosines[start:end])) for start, end in zip(self._starts[best], ends[best])]
        return [Match(str(self.names[row]), float(cosines[row]), str(self.files[row])) for row in rows]

    def search_among(self, rows: np.ndarray, embedding: np.ndarray, top: int = 5) -> list[Match]:
        """Like `search`, among the images `rows` only."""
        rows = np.sort(rows)
        cosines = self.embeddings[rows] @ self.check_probe(embedding)
        nearest: dict[str, Match] = {}
        for at in np.argsort(-cosines, kind="stable"):
            name = str(self.names[rows[at]])
            nearest.setdefault(name, Match(name, float(cosines[at]), str(self.files[rows[at]])))
        return list(nearest.values())[:top]

    def check_probe(self, embedding: np.ndarray) -> np.ndarray:
        """Return an embedding (D,) as float32; its size must be the index's, and its length 1."""
        if np.shape(embedding) != self.embeddings.shape[1:]:
            raise ValueError(
                f"The embedding: expected one of shape [{self.embeddings.shape[1]}], as in the index, found "
                f"{list(np.shape(embedding))}."
            )
        return check_unit_rows("The embedding", embedding)

    def _nearest_others(self) -> np.ndarray:
        """(M,) float32; empty where there is only one person."""
        groups = self._find_same_people()
        if len(np.unique(groups)) < 2:
            return np.zeros(0, np.float32)
        of_row = np.repeat(groups, np.diff(np.r_[self._starts, len(self)]))
        rows = np.arange(len(self))
        if len(rows) > _CALIBRATION_IMAGES:
            rows = np.random.default_rng(0).choice(rows, _CALIBRATION_IMAGES, replace=False)
        nearest = []
        for part in np.array_split(rows, -(-len(rows) // _BLOCK)):
            cosines = self.embeddings @ self.embeddings[part].T  # (N, block)
            for row, column in zip(part, cosines.T):
                nearest.append(column[of_row != of_row[row]].max())
        return np.asarray(nearest, np.float32)

    def _find_same_people(self) -> np.ndarray:
        """Return the group number of each person, shared by people who are probably one person.

        A folder copied under another name would make every image as near to "someone else" as to itself, and the
        threshold 1. Two people count as one if their centres are nearer than three of four images are to the centre of
        their own person's other images.
        """
        counts = np.diff(np.r_[self._starts, len(self)])
        sums = np.add.reduceat(self.embeddings, self._starts)
        groups = np.arange(self.num_people)
        if self.num_people > _MOST_PEOPLE_COMPARED:
            return groups
        without = np.repeat(sums, counts, axis=0) - self.embeddings
        own = np.sum(normalize(without) * self.embeddings, axis=1)[np.repeat(counts > 1, counts)]
        usual = float(np.quantile(own, 0.75)) if len(own) else 0.0
        least = usual if usual > _ALIKE else _SAME_IMAGE
        for first, second in similar_pairs(centres := normalize(sums).astype(np.float32), centres, least, same=True):
            self.same_people.append((str(self.names[self._starts[first]]), str(self.names[self._starts[second]])))
            groups[groups == groups[second]] = groups[first]
        return groups

    def check_model(self, model: FaceModel) -> None:
        """Raise a ValueError unless the index was made with this model, in any format."""
        probe = probe_of(model)
        if probe.shape != self.probe.shape or float(probe @ self.probe) < _SAME_MODEL:
            raise ValueError(
                f"The index was made with another model ({self.model}) than {model.name}; their embeddings cannot be "
                "compared. Enroll again, or use that model."
            )

    def save(self, path: str | Path) -> None:
        """Write it as .npz, atomically."""
        with atomic_write(path, private=True) as file:
            np.savez(
                file, embeddings=self.embeddings, names=self.names, files=self.files, probe=self.probe,
                nearest_others=self.nearest_others, model=np.array(json.dumps({"name": self.model})),
            )  # fmt: skip


def probe_of(model: FaceModel) -> np.ndarray:
    """Return the model's embedding (D,) of a fixed image."""
    return model.embed_pixels(spread_pixels(2)[1:])[0]


def read_index(path: str | Path) -> PeopleIndex:
    """Read an index without unpickling; raise a ValueError if the file is missing, damaged, or not an index."""
    try:
        arrays, _ = read_npz(path, _KEYS)
        missing = [key for key in _KEYS if key not in arrays]
        if missing:
            raise ValueError(f"it has no {', '.join(missing)}")
        embeddings, names, files, probe, nearest_others = (arrays[key] for key in _KEYS[:5])
        model = str(json.loads(str(arrays["model"]))["name"])
        if nearest_others.dtype.kind != "f":
            raise ValueError("its nearest_others are not numbers")
        if any(array.dtype.kind != "U" or array.shape != embeddings.shape[:1] for array in (names, files)):
            raise ValueError(f"it does not have a name and a file for each of {len(embeddings)} embeddings")
        return PeopleIndex(embeddings, names.tolist(), files.tolist(), probe, model, nearest_others=nearest_others)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        what = str(error).rstrip(".")
        raise ValueError(
            f"{path} is not an index of people ({what}). Make it again with `ppfacerec infer enroll`."
        ) from error
