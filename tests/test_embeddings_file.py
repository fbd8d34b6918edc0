"""`ppfacerec eval --embeddings`: any framework's embeddings by the same rules, from a file that nobody has to trust."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ppfacerec.cli import main
from ppfacerec.evaluation.embeddings_file import EXPECTED, read_embeddings
from ppfacerec.metrics import evaluate, normalize

ROOT = Path(__file__).parents[1]


def rows(num_pairs: int = 40) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(2 * num_pairs, 8)).astype(np.float32)
    is_same = np.arange(num_pairs) % 2 == 0
    embeddings[1::2][is_same] += embeddings[0::2][is_same]
    return embeddings, is_same


def saved(folder: Path, **arrays) -> str:
    np.savez(folder / "mine.npz", **arrays)
    return str(folder / "mine.npz")


def test_rows_are_normalised_and_scored_by_the_same_rules(tmp_path, capsys):
    embeddings, is_same = rows()
    path = saved(tmp_path, embeddings=embeddings, is_same=is_same.astype(int))
    assert main(["eval", "--embeddings", path, "-o", f"Global.output_dir={tmp_path}/out"]) == 0
    found = json.loads((tmp_path / "out" / "eval.json").read_text())
    expected = evaluate(normalize(embeddings), is_same)
    assert found["mine"]["accuracy"] == found["average_accuracy"] == expected.accuracy_mean
    assert found["mine"]["threshold"] == expected.threshold
    assert found["mine"]["auc"] == expected.auc
    assert os.listdir(tmp_path / "out") == ["eval.json"]
    lengths = np.linalg.norm(embeddings.astype(float), axis=1)
    assert read_embeddings(path).evaluate().accuracy_mean == expected.accuracy_mean
    assert (
        f"mine.npz: the rows' lengths are {lengths.min():.4g} to {lengths.max():.4g}; every row is normalised to 1."
        in capsys.readouterr().out
    )


@pytest.mark.slow
def test_several_files_make_one_table_and_a_report(tmp_path):
    embeddings, is_same = rows()
    identities = np.repeat([f"person {i}" for i in range(20)], 4)
    paths = [str(tmp_path / f"{name}.npz") for name in ("a", "b")]
    np.savez(paths[0], embeddings=embeddings, is_same=is_same, identities=identities)
    np.savez_compressed(paths[1], embeddings=-embeddings[:40], is_same=is_same[:20])
    assert main(["eval", "--report", "--embeddings", *paths, "-o", f"Global.output_dir={tmp_path}/out"]) == 0
    found = json.loads((tmp_path / "out" / "report" / "eval.json").read_text())
    assert list(found) == ["a", "b", "average_accuracy"]
    assert found["a"]["threshold_card"]["bootstrap"]["drawn"] == "identities"
    assert found["b"]["threshold_card"]["bootstrap"]["drawn"] == "pairs"
    assert (tmp_path / "out" / "report" / "index.html").is_file()


@pytest.mark.slow
def test_it_needs_neither_paddle_nor_a_config(tmp_path):
    embeddings, is_same = rows()
    path = saved(tmp_path, embeddings=embeddings, is_same=is_same)
    code = (
        "import sys; sys.modules['paddle'] = None; from ppfacerec.cli import main; "
        f"sys.exit(main(['eval', '--embeddings', {path!r}, '-o', 'Global.output_dir=out', 'Global.report=True']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out" / "report" / "index.html").is_file()


GOOD, SAME = rows()
NAN = GOOD.copy()
NAN[3] = np.nan
MISTAKES = [
    ({"embeddings": GOOD}, f": has no is_same, only embeddings. {EXPECTED}"),
    ({"x": GOOD, "labels": SAME}, f": has no embeddings and no is_same, only x, labels. {EXPECTED}"),
    ({}, f": has no embeddings and no is_same, only nothing. {EXPECTED}"),
    ({"embeddings": GOOD.astype(object), "is_same": SAME}, ": not an .npz of numbers ('embeddings' is an array of object, not of numbers, booleans or strings)."),
    ({"embeddings": GOOD, "is_same": SAME.astype(object)}, ": not an .npz of numbers ('is_same' is an array of object, not of numbers, booleans or strings)."),
    ({"embeddings": GOOD[0], "is_same": SAME}, ": embeddings has shape [8] and dtype float32, expected real numbers of shape [2N, D]; rows 2i and 2i + 1 are pair i."),
    ({"embeddings": GOOD.astype(str), "is_same": SAME}, ": embeddings has shape [80, 8] and dtype <U"),
    ({"embeddings": GOOD.astype(complex), "is_same": SAME}, ": embeddings has shape [80, 8] and dtype complex128"),
    ({"embeddings": GOOD[1:], "is_same": SAME}, ": embeddings has 79 rows, expected an even number: rows 2i and 2i + 1 are pair i."),
    ({"embeddings": GOOD, "is_same": SAME[1:]}, ": is_same has 39 labels for 40 pairs (80 rows), expected one label per pair."),
    ({"embeddings": GOOD, "is_same": SAME.reshape(2, 20)}, ": is_same has shape [2, 20] and dtype bool, expected one True or False (or 1 or 0) per pair."),
    ({"embeddings": GOOD, "is_same": SAME * 2}, ": is_same has shape [40] and dtype int64, expected one True or False (or 1 or 0) per pair."),
    ({"embeddings": GOOD[:10], "is_same": SAME[:5]}, ": 5 pairs cannot be split into 10 folds"),
    ({"embeddings": NAN, "is_same": SAME}, ": embeddings holds NaN or infinity in 1 of 80 rows, first in row 3 (pair 1)."),
    ({"embeddings": GOOD[:0], "is_same": SAME[:0]}, ": 0 pairs cannot be split into 10 folds"),
    ({"embeddings": GOOD, "is_same": SAME, "identities": np.arange(7)}, ": identities has shape [7] and dtype int64, expected a name or a number for each of the 80 rows of embeddings."),
]  # fmt: skip


@pytest.mark.parametrize(("arrays", "message"), MISTAKES)
def test_mistakes_are_named_with_the_file(arrays, message, tmp_path):
    path = saved(tmp_path, **arrays)
    with pytest.raises(ValueError, match=f"^{re.escape(path + message)}"):
        read_embeddings(path).evaluate()


def test_files_that_are_no_npz_are_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"none\.npz: cannot be read \(No such file or directory\)\. Expected what np\.savez"
    ):
        read_embeddings(str(tmp_path / "none.npz"))
    np.save(tmp_path / "one.npy", GOOD)
    with pytest.raises(ValueError, match=r"one\.npy: not an \.npz of numbers \(one array, as np\.save writes it\)"):
        read_embeddings(str(tmp_path / "one.npy"))
    for content in (b"", b"text", b"PK\x03\x04", b"\x80\x04N."):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.npz: not an \.npz of numbers"):
            read_embeddings(str(tmp_path / "x.npz"))


def test_damaged_npz_gives_numbers_or_a_value_error(tmp_path):
    random, path = np.random.default_rng(0), tmp_path / "x.npz"
    np.savez_compressed(path, embeddings=GOOD[:40, :2], is_same=SAME[:20])
    good, messages = path.read_bytes(), []
    for k in range(600):
        data = bytearray(good)
        for _ in range(random.integers(1, 4)):
            data[random.integers(len(data))] ^= 1 << random.integers(8)
        path.write_bytes(data[: random.integers(len(data))] if k % 3 == 0 else data)
        try:
            read_embeddings(str(path)).evaluate()
        except ValueError as error:
            messages.append(str(error))
    assert 0 < len(messages) < 600
    assert all(message.startswith(str(path)) for message in messages)


def with_header(shape: str, dtype: str = "<f4") -> bytes:
    """An archive whose embeddings have this header and 8 bytes."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("embeddings.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.encode() + bytes(8))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_header("(1099511627776, 1)"), "'embeddings' of shape [1099511627776, 1], float32, has 8 bytes, not 4398046511104"),
        (with_header("(2, -1)"), "has 8 bytes, not -8"),
        (with_header("(2, 1)", "O"), "'embeddings' is an array of object, not of numbers, booleans or strings"),
        (with_header("__import__('os')"), "not an .npz of numbers ("),
    ],
)  # fmt: skip
def test_a_header_that_lies_is_refused_before_memory_is_taken(tmp_path, content, message):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_embeddings(str(tmp_path / "x.npz"))


@pytest.mark.parametrize("order", ["<", ">"])
def test_texts_with_characters_that_there_are_not_are_refused(tmp_path, order):
    names = np.array(["a\u738b\U0010ffff"] * 80, f"{order}U3")
    assert read_embeddings(saved(tmp_path, embeddings=GOOD, is_same=SAME, identities=names)).identities[0] == names[0]
    codes = np.full(80 * 3, 0x110000, f"{order}u4")
    path = saved(tmp_path, embeddings=GOOD, is_same=SAME, identities=codes.view(f"{order}U3"))
    with pytest.raises(ValueError, match="'identities' has characters outside Unicode"):
        read_embeddings(path)


def test_an_archive_that_unfolds_to_gigabytes_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", embeddings=np.zeros((10, 2 * 10**6), np.float32), is_same=SAME)
    with pytest.raises(ValueError, match=r"it would expand to 80,000,\d{3} bytes, far more than its \d\d,\d{3}\)"):
        read_embeddings(str(tmp_path / "x.npz"))


def test_other_options_beside_embeddings_are_refused(tmp_path, capsys):
    path = saved(tmp_path, embeddings=GOOD, is_same=SAME)
    for arguments, message in (
        (["-o", "Global.epochs=3"], "-o Global.epochs=3: with --embeddings, expected Global.output_dir=FOLDER or Global.report=True."),
        (["-o", "Global.report=maybe"], "-o Global.report=maybe: with --embeddings, expected"),
        (["-c", "x.yaml"], "--embeddings needs no config; leave out -c."),
    ):  # fmt: skip
        assert main(["eval", "--embeddings", path, *arguments]) == 1
        assert message in capsys.readouterr().out
    assert main(["eval", "--embeddings", path, path, "-o", f"Global.output_dir={tmp_path}"]) == 1
    assert "--embeddings: two files are named 'mine', the name of the set. Rename one." in capsys.readouterr().out


@pytest.mark.slow
def test_several_models_on_the_same_pairs_have_no_average(tmp_path, capsys):
    embeddings, is_same = rows()
    paths = [str(tmp_path / f"{name}.npz") for name in ("a", "b")]
    for path, factor in zip(paths, (1, -1)):
        np.savez(path, embeddings=embeddings**factor, is_same=is_same)
    assert main(["eval", "--report", "--embeddings", *paths, "-o", f"Global.output_dir={tmp_path}/out"]) == 0
    assert "average" not in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "eval.json").read_text())["average_accuracy"] is None
    assert ">average<" not in (tmp_path / "out" / "report" / "index.html").read_text()


def test_doubts_are_told_and_lengths_are_kept(tmp_path, log_lines):
    path = saved(tmp_path, embeddings=np.tile([[3.0, 4.0]], (80, 1)), is_same=SAME)
    result = read_embeddings(path).evaluate()
    assert result.xnorm == 5.0
    assert "mine.npz: all embeddings are nearly equal" in log_lines.text
    with pytest.raises(ValueError, match=r"mine\.npz: embeddings: the length of 80 of 80 rows overflows"):
        read_embeddings(saved(tmp_path, embeddings=np.full((80, 2), 1e300), is_same=SAME)).evaluate()
