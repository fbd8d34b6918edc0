"""Verification sets that a config can name."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Optional

from ppfacerec.core.registry import near_match
from ppfacerec.data.pairs.pair_bin import PairBin, read_bin
from ppfacerec.data.pairs.pair_list import read_lfw_pairs, read_pair_list
from ppfacerec.data.pairs.pair_set import FolderPairs


class FiveFaceEvalDataset:
    """Verification sets in insightface's .bin format.

    Args:
        val_data_path: the folder of the .bin files.
        val_targets: names of the sets without ".bin", or "all" for every set there; the default is PaddleClas's.

    Raises:
        ValueError: a target has no file, or the folder has no .bin file; the message lists the sets in the folder.
    """

    paths: ClassVar = {"val_data_path": "folder"}

    def __init__(
        self, val_data_path: str, val_targets: Literal["all"] | Sequence[str] = ("agedb_30", "cfp_fp", "lfw")
    ) -> None:
        self._folder = Path(val_data_path)
        if not self._folder.is_dir():
            raise ValueError(f"val_data_path: {val_data_path} is not a folder.")
        for problem in self.check({"val_data_path": val_data_path, "val_targets": val_targets}):
            raise ValueError(problem)
        there = bins_in(val_data_path)
        self.names = there if val_targets == "all" else list(dict.fromkeys(val_targets))
        self.left_out = [name for name in there if name not in self.names]

    @staticmethod
    def check(arguments: Mapping[str, Any]) -> Iterator[str]:
        """Yield problems of the arguments for the config check, without reading a set."""
        folder, targets = arguments["val_data_path"], arguments["val_targets"]
        there = bins_in(folder)
        if not Path(folder).is_dir():  # reported for the path itself
            return
        if not (targets and there):
            problem = f"{folder} has no .bin file" if targets else "no set is named; name some, or 'all'"
            yield f"val_targets: {problem}."
            return
        for name in () if targets == "all" else targets:
            if name not in there:
                yield (
                    f"val_targets: {Path(folder) / name}.bin does not exist{near_match(name, there)}"
                    f" In that folder: {', '.join(there)}."
                )

    def open(self, name: str) -> PairBin:
        return read_bin(self._folder / f"{name}.bin")

    def describe(self) -> str:
        left_out = f"; left out: {', '.join(self.left_out)} (val_targets: all includes them)" if self.left_out else ""
        return f"{', '.join(self.names)}{left_out}"


class _OneList:
    """A verification set of one pair list, named after its file."""

    def __init__(self, path: str, pairs: FolderPairs) -> None:
        self.names, self._pairs = [Path(path).stem], pairs

    def open(self, name: str) -> FolderPairs:
        return self._pairs

    def describe(self) -> str:
        return f"{self.names[0]} ({len(self._pairs)} pairs of {self._pairs.num_images} images)"


class FaceEvalDataset(_OneList):
    """Pairs of image files in PaddleClas's list with lines ``left right 1`` or ``left right 0``.

    Args:
        dataset_root: the folder that the paths are relative to.
        pair_label_path: the pair list.
        delimiter: between the three fields; None detects it.

    Raises:
        ValueError: a malformed line, or a missing image; with file and line.
    """

    paths: ClassVar = {"dataset_root": "folder", "pair_label_path": "file"}

    def __init__(self, dataset_root: str, pair_label_path: str, delimiter: Optional[str] = None) -> None:
        super().__init__(pair_label_path, read_pair_list(pair_label_path, dataset_root, delimiter))


class LFWEvalDataset(_OneList):
    """Pairs of image files in LFW's pairs.txt, with the folds declared in its first line.

    Args:
        image_root: the folder that contains a folder for each person.
        pairs_path: the pair list.
        suffix: of the image files.

    Raises:
        ValueError: a malformed line, or a missing image; with file and line.
    """

    paths: ClassVar = {"image_root": "folder", "pairs_path": "file"}

    def __init__(self, image_root: str, pairs_path: str, suffix: str = ".jpg") -> None:
        super().__init__(pairs_path, read_lfw_pairs(pairs_path, image_root, suffix))


def bins_in(folder: str | Path) -> list[str]:
    """Return the names of the .bin files in a folder, without ".bin"."""
    return sorted(path.stem for path in Path(folder).glob("*.bin"))
