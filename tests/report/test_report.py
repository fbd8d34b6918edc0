"""The report: one page with everything in it, in agreement with the numbers, whatever a set can tell."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import jpeg, picture

from ppfacerec.data.pairs.eval_datasets import FiveFaceEvalDataset, LFWEvalDataset
from ppfacerec.data.pairs.pair_bin import write_bin
from ppfacerec.evaluation.report import write_report
from ppfacerec.evaluation.report.hardest import errors, hardest_pairs
from ppfacerec.evaluation.report.plots import drawable
from ppfacerec.metrics import evaluate, normalize
from ppfacerec.metrics.evaluation import Evaluation

pytestmark = pytest.mark.slow


def embeddings(num_pairs: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(2 * num_pairs, 4))
    is_same = np.arange(num_pairs) % 2 == 0
    rows[1::2][is_same] += 2 * rows[0::2][is_same]
    return normalize(rows), is_same


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "source", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def two_sets(tmp_path: Path) -> tuple[Evaluation, FiveFaceEvalDataset]:
    """A usual set of 40 pairs, and one of a single class."""
    images = [jpeg(picture(i, i)) for i in range(80)]
    rows, is_same = embeddings()
    write_bin(tmp_path / "usual.bin", images, is_same)
    write_bin(tmp_path / "one_class.bin", images[:20], [True] * 10)
    results = {"usual": evaluate(rows, is_same), "one_class": evaluate(rows[:20], [True] * 10)}
    return Evaluation(results), FiveFaceEvalDataset(str(tmp_path), ["usual", "one_class"])


def test_report_has_its_files_and_the_page_needs_nothing_else(two_sets, tmp_path):
    page = write_report(tmp_path / "new" / "report", *two_sets, facts={"weights": "x"})
    assert page == tmp_path / "new" / "report" / "index.html"
    assert sorted(p.name for p in page.parent.iterdir()) == [
        "eval.json", "index.html", "roc.png", "scores_one_class.png", "scores_usual.png",
    ]  # fmt: skip
    for name in ("roc.png", "scores_usual.png", "scores_one_class.png"):
        assert cv2.imread(str(page.parent / name)).shape[1] > 800
    parsed = Page(page)
    assert parsed.open == []
    text = page.read_text()
    for address in re.findall(r'(?:src|srcset|href)="([^"]*)"', text):
        assert address.startswith(("data:image/", "#set-")), address[:60]
    assert "url(" not in text
    assert "<script" not in text
    assert "http" not in re.sub(r"http-equiv", "", text)


def test_page_is_for_light_and_dark_phones_and_screen_readers(two_sets, tmp_path):
    page = write_report(tmp_path / "report", *two_sets)
    parsed, text = Page(page), page.read_text()
    assert parsed.all("html")[0]["lang"] == "en"
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in parsed.all("meta")
    assert "prefers-color-scheme: dark" in text
    assert len(parsed.all("source")) == 3  # a dark version of each plot
    assert all(image["alt"] for image in parsed.all("img"))
    assert all("scope" in cell for cell in parsed.all("th"))
    targets = {"#" + heading["id"] for heading in parsed.all("h2") if heading["id"].startswith("set-")}
    assert {link["href"] for link in parsed.all("a")} == targets == {"#set-1", "#set-2"}


def test_page_and_json_say_what_the_evaluation_said(two_sets, tmp_path):
    evaluation, dataset = two_sets
    page = write_report(tmp_path / "report", evaluation, dataset)
    found = json.loads((page.parent / "eval.json").read_text())
    plain = evaluation.to_json()
    assert found["average_accuracy"] == plain["average_accuracy"]
    for name in ("usual", "one_class"):
        assert {key: found[name][key] for key in plain[name]} == plain[name]
    usual, text = found["usual"], Page(page).text
    assert f"{100 * usual['accuracy']:.3f}" in text
    assert f"{usual['cosine_threshold']:.3f}" in text
    row = usual["threshold_card"]["rows"][0]
    assert row["tar_interval"] is None  # it would rest on two false accepts
    assert "no interval: the FAR allows fewer than 10 false accepts" in text
    assert f"{row['cosine_threshold']:.4f}" in text
    assert text.count("falsely accepted") >= min(usual["false_accepts"], 12) > 0
    assert found["one_class"]["threshold_card"]["rows"][0]["tar"] is None
    assert found["one_class"]["hardest_false_accepts"] == []
    assert "n/a: the set has no pair of different people." in text


@pytest.mark.parametrize("is_same", [True, False])
def test_hardest_pairs_are_the_worst_of_their_kind_in_order(two_sets, is_same):
    evaluation, dataset = two_sets
    result = evaluation.results["usual"]
    hard = hardest_pairs(result, dataset.open("usual"), is_same, 5)
    kind = np.flatnonzero(result.is_same == is_same)
    worst = sorted(result.distances[kind], reverse=is_same)[:5]
    assert [pair.distance for pair in hard] == worst
    for pair in hard:
        assert result.is_same[pair.pair] == is_same
        assert pair.is_error == ((pair.distance < result.threshold) != is_same)
        assert pair.cosine == 1 - pair.distance / 2
    wrong = [p for p in hardest_pairs(result, None, is_same, 40) if p.is_error]
    assert errors(result)[result.is_same == is_same].sum() == len(wrong)


def test_thumbnails_are_the_pairs_own_images_left_and_right(two_sets):
    evaluation, dataset = two_sets
    pair = hardest_pairs(evaluation.results["usual"], dataset.open("usual"), True)[0]
    assert pair.images is not None
    for side, uri in enumerate(pair.images):
        data = np.frombuffer(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")), np.uint8)
        shown = cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1].astype(float)
        number = 2 * pair.pair + side
        assert shown.shape == (112, 112, 3)
        assert np.abs(shown - picture(number, number)).mean() < 12  # JPEG twice, of a noisy picture


def test_names_of_people_are_shown_and_cannot_break_the_page(tmp_path):
    name = "<b>x&'\""
    lines = ["1\t10"]
    for person in (name, "bo"):
        (tmp_path / "faces" / person).mkdir(parents=True)
        for number in (1, 2):
            (tmp_path / "faces" / person / f"{person}_{number:04d}.jpg").write_bytes(jpeg(picture(number, number)))
    lines += [f"{name}\t1\t2"] * 10 + [f"{name}\t1\tbo\t2"] * 10
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    rows, _ = embeddings(20)
    result = evaluate(rows, [True] * 10 + [False] * 10)
    dataset = LFWEvalDataset(str(tmp_path / "faces"), str(tmp_path / "pairs.txt"))
    page = Page(write_report(tmp_path / "report", Evaluation({"pairs": result}), dataset))
    assert page.open == []
    assert f"{name} / bo" in page.text
    assert "bootstrap over identities" in page.text
    assert not page.all("b")


def test_embeddings_alone_give_a_report_without_pictures(tmp_path):
    result = evaluate(*embeddings())
    identities = {"mine": [str(i // 4) for i in range(80)]}
    page = Page(write_report(tmp_path / "report", Evaluation({"mine": result}), identities=identities))
    assert len(page.all("img")) == 2  # the plots
    assert "bootstrap over identities" in page.text
    assert "falsely rejected" in page.text


def test_drawing_needs_no_display_and_leaves_pyplot_alone(two_sets, tmp_path):
    before = "matplotlib.pyplot" in sys.modules
    write_report(tmp_path / "report", *two_sets)
    assert ("matplotlib.pyplot" in sys.modules) == before


HOSTILE = ["average_accuracy", os.fsdecode(b"b\xffd"), r"$\frac$", "_hidden", "测试集", "two\nlines", "<b>", "长" * 80]


def test_report_works_for_any_name_of_a_set(tmp_path, recwarn):
    evaluation = Evaluation({name: evaluate(*embeddings(seed=k)) for k, name in enumerate(HOSTILE)})
    page = write_report(tmp_path / "report", evaluation)
    found = json.loads((page.parent / "eval.json").read_text())
    assert found["average_accuracy"] == evaluation.average_accuracy
    assert found["average_accuracy_set"]["num_pairs"] == 40
    assert len(found) == len(HOSTILE) + 1
    assert Page(page).open == []
    assert [str(warning.message) for warning in recwarn if "lyph" in str(warning.message)] == []


def test_names_are_drawn_with_fonts_that_have_their_letters():
    families, names = drawable(["lfw", "\U0010fffd", "_x", "a$b$"])  # the second stands in no font
    assert families == ["DejaVu Sans"]
    assert names == ["lfw", "set 2", " _x", r"a\$b\$"]


def test_doubts_and_the_measured_far_stand_on_the_page(tmp_path):
    result = evaluate(np.tile([[1.0, 0.0]], (4000, 1)), np.arange(2000) % 2 == 0)
    text = Page(write_report(tmp_path / "report", Evaluation({"collapsed": result}))).text
    assert "the network has collapsed" in text
    assert "n/a1.0e+00" in text.replace("\n", "")


def test_page_tells_intervals_that_rest_on_enough(tmp_path):
    rows, is_same = embeddings(400)
    page = write_report(tmp_path / "report", Evaluation({"usual": evaluate(rows, is_same)}))
    row = json.loads((page.parent / "eval.json").read_text())["usual"]["threshold_card"]["rows"][0]
    low, high = row["tar_interval"]
    assert f"{100 * low:.2f} to {100 * high:.2f}" in Page(page).text


def test_without_faces_the_page_has_the_hardest_pairs_and_no_picture_of_them(two_sets, tmp_path):
    evaluation, dataset = two_sets
    shown = write_report(tmp_path / "shown", evaluation, dataset).read_text()
    hidden = write_report(tmp_path / "hidden", evaluation, dataset, faces=False).read_text()
    assert "data:image/jpeg" in shown
    assert "data:image/jpeg" not in hidden
    assert hidden.count("falsely accepted") == shown.count("falsely accepted") > 0
