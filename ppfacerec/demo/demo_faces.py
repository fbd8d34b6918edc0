"""Demo data: an MS1M_v3-like folder of synthetic faces, to try training without a download.

The faces are drawings (`face_renderer`), not people. The five `.bin` files have the names of LFW, CFP-FP, AgeDB-30,
CALFW and CPLFW because each imitates that set's difficulty; a score on them says nothing about the real set.
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from ppfacerec.core.log import logger, progress_bar
from ppfacerec.core.opencv import import_cv2
from ppfacerec.core.ranges import require_count, require_ranges
from ppfacerec.data.loading.parallel import in_processes, usable_cores
from ppfacerec.data.pairs.pair_bin import PathLike, write_bin
from ppfacerec.demo.face_renderer import Conditions, Face, Identity

VERSION = 2  # of the drawings; increase it when a seed gives other faces
NUM_FOLDS = 10
SMALL = 200  # fewer images are drawn in one process

README = """\
Synthetic faces made by ppfacerec: computer drawings, not photographs. No person is shown or was used to make them.

images/, label.txt   the training set; a line of label.txt is `images/00000000.jpg<TAB>identity`
*.bin                verification pairs of identities that are not in the training set, in 10 folds
demo.json            the arguments that made this folder; the same arguments make the same files

lfw, cfp_fp, agedb_30, calfw and cplfw are NOT the public sets of these names. Each name only says which difficulty
is imitated: easy pairs, frontal against profile, a large age gap (twice), a large pose. An accuracy on them
shows that training works; it cannot be compared with an accuracy on the real sets.
"""

# Conditions of the images: ranges of yaw and age, difficulty (`Conditions`)
TRAIN_VIEW = (0, 60), (0, 1), 1.0
PAIR_VIEWS = {  # of the first and the second image of every pair
    "lfw": (((0, 20), (0.1, 0.4), 0.7), ((0, 20), (0.1, 0.4), 0.7)),
    "cfp_fp": (((0, 10), (0.2, 0.5), 0.7), ((50, 60), (0.2, 0.5), 0.7)),
    "agedb_30": (((0, 20), (0.0, 0.3), 0.7), ((0, 20), (0.7, 1.0), 0.7)),
    "calfw": (((0, 20), (0.0, 0.35), 0.7), ((0, 20), (0.65, 1.0), 0.7)),
    "cplfw": (((0, 50), (0.1, 0.5), 0.7), ((30, 60), (0.1, 0.5), 0.7)),
}

# Seed, group (0 is the training set, 1 .. 5 are the pair sets, which share no identity), identity and image
Shot = tuple[int, int, int, int]


def make_demo_data(
    root: PathLike,
    num_identities: int = 80,
    images_per_identity: int = 16,
    num_pairs: int = 200,
    seed: int = 0,
) -> Path:
    """Make the demo data in `root`, unless it exists already.

    The folder is made under another name and renamed, so that it is complete or does not exist. The same arguments give
    the same bytes (with the same OpenCV). A folder made with other arguments is never overwritten.

    Args:
        num_identities, images_per_identity: size of the training set.
        num_pairs: pairs of each `.bin` file, half of them of the same identity; every image is in two pairs.

    Raises:
        ValueError: an argument is out of range, or `root` contains something else.
    """
    made = {
        "version": VERSION,
        "num_identities": require_count("num_identities", num_identities),
        "images_per_identity": require_count("images_per_identity", images_per_identity),
        "num_pairs": require_count("num_pairs", num_pairs),
        "seed": require_count("seed", seed, 0),
    }
    require_ranges("make_demo_data", num_identities=num_identities, num_pairs=num_pairs)
    root = Path(root)
    if _is_there(root, made):
        logger.info("The demo data in %s exists already.", root)
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}.", suffix=".tmp", dir=root.parent) as folder:
        aside = Path(folder)
        _write(aside, num_identities, images_per_identity, num_pairs, seed)
        (aside / "README.txt").write_text(README, encoding="utf-8")
        (aside / "demo.json").write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
        aside.chmod(0o755)  # temporary folders are private
        try:
            aside.rename(root)  # works only if `root` is missing or empty
        except OSError:
            if not _is_there(root, made):  # another process may have been faster
                raise
    return root


def pair_order(num_pairs: int) -> tuple[list[int], list[bool]]:
    """Return two image numbers per pair, and the labels; images 2i and 2i + 1 are of identity i.

    Each fold of k identities has k pairs of one identity, then k of neighbours in a ring: every image is in one of
    each, so `num_pairs` distinct images make `num_pairs` pairs.
    """
    k = num_pairs // (2 * NUM_FOLDS)
    folds = range(0, NUM_FOLDS * k, k)
    pairs = [(2 * (fold + i), 2 * (fold + (i + step) % k) + 1) for fold in folds for step in (0, 1) for i in range(k)]
    return [image for pair in pairs for image in pair], ([True] * k + [False] * k) * NUM_FOLDS


def draw_jpeg(shot: Shot) -> bytes:
    """Draw and encode one image."""
    cv2, (_, group, _, image) = import_cv2(), shot
    view = list(PAIR_VIEWS.values())[group - 1][image] if group else TRAIN_VIEW
    now = Conditions(np.random.default_rng(shot), *view)
    picture = Face(Identity(np.random.default_rng(shot[:3])), now).render()
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, now.jpeg_quality])[1].tobytes()


def list_shots(num_identities: int, images_per_identity: int, num_pairs: int, seed: int) -> list[Shot]:
    """List all images of a demo folder: the training set by identity, then the pair sets."""
    groups = [(num_identities, images_per_identity), *[(num_pairs // 2, 2)] * len(PAIR_VIEWS)]
    return [(seed, k, i, j) for k, (people, images) in enumerate(groups) for i in range(people) for j in range(images)]


def _write(folder: Path, num_identities: int, images_per_identity: int, num_pairs: int, seed: int) -> None:
    shots = list_shots(num_identities, images_per_identity, num_pairs, seed)
    logger.info("Drawing %d synthetic faces (about 8 s of one core for 1,000)", len(shots))
    processes = 1 if len(shots) < SMALL else min(usable_cores(), 8)
    drawn = iter(progress_bar(in_processes(draw_jpeg, shots, processes), len(shots), "Drawing faces", "image"))
    (folder / "images").mkdir()
    with open(folder / "label.txt", "w", encoding="utf-8", newline="\n") as labels:
        for number in range(num_identities * images_per_identity):
            name = f"images/{number:08d}.jpg"
            (folder / name).write_bytes(next(drawn))
            labels.write(f"{name}\t{shots[number][2]}\n")
    order, is_same = pair_order(num_pairs)
    for name in PAIR_VIEWS:
        images = [next(drawn) for _ in range(num_pairs)]
        write_bin(folder / f"{name}.bin", [images[i] for i in order], is_same)
    next(drawn, None)  # closes the progress bar


def _is_there(root: Path, made: dict[str, int]) -> bool:
    """Return whether `root` is the complete demo data with these arguments; a ValueError if it is anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / "demo.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"{root} exists and is not demo data (it has no demo.json), so it is left unchanged. Choose another folder "
            "for the demo data, or remove this one if you do not need it."
        )
    if found != made:
        raise ValueError(
            f"{root} holds demo data made with {found}, expected {made}. Remove the folder to make it again, choose "
            "another one, or use the same arguments."
        )
    return True
