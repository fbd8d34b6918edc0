"""The evaluator: each distinct image once, with its mirror image, whatever its size; errors name the image."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest
from conftest import jpeg, picture

from ppfacerec.cli import main
from ppfacerec.config import load_config
from ppfacerec.core.registry import Spec
from ppfacerec.data.pairs.eval_datasets import FaceEvalDataset, FiveFaceEvalDataset, LFWEvalDataset
from ppfacerec.data.pairs.pair_bin import read_bin, write_bin
from ppfacerec.data.transforms.basic import Pipeline
from ppfacerec.data.transforms.images import decode_rgb, resize_short_side
from ppfacerec.engine import Engine
from ppfacerec.evaluation.evaluator import Evaluator
from ppfacerec.metrics import FaceAccOnFiveDatasets, evaluate, normalize

OPS = [Spec("DecodeImage"), Spec("NormalizeImage")]


@pytest.fixture(scope="module")
def net() -> paddle.nn.Layer:
    from tiny_plugin import PlainNet  # registers itself, which other tests must not see at collection

    paddle.seed(0)
    net = PlainNet()
    net.eval()
    return net


def evaluator(dataset, backend="eager", batch_size=7, ops=OPS, **options) -> Evaluator:
    return Evaluator(dataset, Pipeline(ops), FaceAccOnFiveDatasets(), batch_size, backend=backend, **options)


def plain_embeddings(net: paddle.nn.Layer, images: list[np.ndarray], flip: bool = True) -> np.ndarray:
    """Every image by itself, its mirror image in a pass of its own, float64 sums."""
    rows = []
    for image in images:
        passes = [image, image[:, ::-1]] if flip else [image]
        inputs = [((p.astype(np.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None] for p in passes]
        rows.append(sum(net(paddle.to_tensor(x)).numpy()[0].astype(np.float64) for x in inputs))
    return normalize(np.stack(rows))


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("backend", ["eager", "onednn"])
def test_one_pass_over_distinct_images_equals_every_image_by_itself(net, tiny_data, flip, backend):
    pairs = read_bin(tiny_data / "lfw.bin")
    expected = plain_embeddings(net, [decode_rgb(pairs.images[i], "") for i in pairs.index], flip)
    dataset = FiveFaceEvalDataset(str(tiny_data), ["lfw"])
    result = evaluator(dataset, backend, flip_test=flip).evaluate(net).results["lfw"]
    np.testing.assert_allclose(result.distances, evaluate(expected, pairs.is_same).distances, atol=1e-5)
    assert result.is_same.tolist() == pairs.is_same.tolist()


def test_batch_size_does_not_change_the_numbers(net, tiny_data):
    dataset = FiveFaceEvalDataset(str(tiny_data), ["lfw"])
    distances = [evaluator(dataset, batch_size=size).evaluate(net).results["lfw"].distances for size in (1, 3, 64)]
    for other in distances[1:]:
        np.testing.assert_allclose(other, distances[0], atol=1e-6)


@pytest.mark.parametrize("shape", [(112, 112), (224, 224), (150, 130), (100, 160), (112, 140)])
def test_resize_is_opencvs_bicubic_by_the_short_side_and_a_central_square(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    height, width = shape
    if height > width:
        whole = cv2.resize(image, (112, 112 * height // width), interpolation=cv2.INTER_CUBIC)
    else:
        whole = cv2.resize(image, (112 * width // height, 112), interpolation=cv2.INTER_CUBIC)
    top, left = (whole.shape[0] - 112) // 2, (whole.shape[1] - 112) // 2
    resized = resize_short_side(image)
    np.testing.assert_array_equal(resized, whole[top : top + 112, left : left + 112])
    if shape == (112, 112):
        np.testing.assert_array_equal(resized, image)


def test_images_of_another_size_are_resized_with_a_line_in_the_log(net, tmp_path, log_lines):
    images = [picture(i % 9, i, 112 if i < 5 else 160) for i in range(20)]
    write_bin(tmp_path / "mixed.bin", [jpeg(i) for i in images], [True, False] * 5)
    dataset = FiveFaceEvalDataset(str(tmp_path), "all")
    result = evaluator(dataset).evaluate(net).results["mixed"]
    fitted = [resize_short_side(decode_rgb(jpeg(image), "")) for image in images]
    expected = evaluate(plain_embeddings(net, fitted), [True, False] * 5)
    np.testing.assert_allclose(result.distances, expected.distances, atol=1e-5)
    lines = [r.message for r in log_lines.records if "not 112 x 112" in r.message]
    assert lines == [
        "[Eval] mixed: 15 images are not 112 x 112 after transform_ops (most of them 160 x 160); resized by the short "
        "side, bicubic, as insightface does. Faces must be aligned as in training."
    ]


@pytest.mark.parametrize(
    "operations",
    [
        [Spec("ResizeImage", {"size": [112, 112]})],
        [Spec("CropImage", {"size": 112})],
        [Spec("ResizeImage", {"size": [128, 140], "interpolation": "area"}), Spec("CropImage", {"size": 112})],
    ],
    ids=["resize", "crop", "resize, crop"],
)
def test_operations_of_the_yaml_are_carried_out_in_order_as_in_training(net, tmp_path, log_lines, operations):
    images = [jpeg(picture(i % 9, i, 160)[:150]) for i in range(20)]
    write_bin(tmp_path / "large.bin", images, [True, False] * 5)
    ops = [OPS[0], *operations, OPS[1]]
    result = evaluator(FiveFaceEvalDataset(str(tmp_path), "all"), ops=ops).evaluate(net).results["large"]
    trained_on = [Pipeline(ops)(image, "", np.random.default_rng(0)) for image in images]  # as BatchMaker does
    expected = evaluate(plain_embeddings(net, trained_on), [True, False] * 5)
    np.testing.assert_allclose(result.distances, expected.distances, atol=1e-5)
    assert "not 112 x 112" not in log_lines.text


def test_image_that_is_not_square_is_cut_and_the_log_says_so(net, tmp_path, log_lines):
    write_bin(tmp_path / "wide.bin", [jpeg(picture(i, i, 160)[:120]) for i in range(20)], [True, False] * 5)
    evaluator(FiveFaceEvalDataset(str(tmp_path), "all")).evaluate(net)
    assert "as insightface does, and cut to the central square." in log_lines.text


def folder_of_pictures(root: Path) -> str:
    """Ten people with two pictures each, a pairs.txt of five folds, and the same as PaddleClas's list."""
    lines, plain = ["5\t2"], []
    for fold in range(5):
        a, b = f"p{2 * fold}", f"p{2 * fold + 1}"
        for person in (a, b):
            (root / "faces" / person).mkdir(parents=True)
            for number in (1, 2):
                image = jpeg(picture(int(person[1:]), number))
                (root / "faces" / person / f"{person}_{number:04d}.jpg").write_bytes(image)
        for left, i, right, j in ((a, 1, a, 2), (b, 1, b, 2), (a, 1, b, 1), (a, 2, b, 2)):
            lines.append(f"{left}\t{i}\t{j}" if left == right else f"{left}\t{i}\t{right}\t{j}")
            plain.append(f"{left}/{left}_{i:04d}.jpg {right}/{right}_{j:04d}.jpg {int(left == right)}")
    (root / "pairs.txt").write_text("\n".join(lines))
    (root / "list.txt").write_text("\n".join(plain))
    return str(root / "faces")


def test_folders_give_what_the_same_images_in_a_bin_give(net, tmp_path):
    root = folder_of_pictures(tmp_path)
    lfw = LFWEvalDataset(root, str(tmp_path / "pairs.txt"))
    pairs = lfw.open("pairs")
    write_bin(tmp_path / "same.bin", [pairs.read(i) for i in pairs.index], pairs.is_same)
    results = {
        name: evaluator(dataset).evaluate(net).results[name]
        for name, dataset in {
            "pairs": lfw,
            "list": FaceEvalDataset(root, str(tmp_path / "list.txt")),
            "same": FiveFaceEvalDataset(str(tmp_path), "all"),
        }.items()
    }
    for result in results.values():
        np.testing.assert_array_equal(result.distances, results["same"].distances)
    assert len(results["pairs"].accuracy) == 5  # the folds of pairs.txt
    assert len(results["list"].accuracy) == len(results["same"].accuracy) == 10


def test_image_that_does_not_decode_is_named(net, tmp_path):
    root = folder_of_pictures(tmp_path)
    (tmp_path / "faces" / "p3" / "p3_0001.jpg").write_bytes(b"no image")
    message = r"pairs\.txt, line 7 \(p3/p3_0001\.jpg\) does not decode as an image: 8 bytes that start with b'no image'"
    with pytest.raises(ValueError, match=message):
        evaluator(LFWEvalDataset(root, str(tmp_path / "pairs.txt"))).evaluate(net)


def test_one_class_only_gives_accuracy_and_na(net, tmp_path):
    write_bin(tmp_path / "same.bin", [jpeg(picture(i // 2, i)) for i in range(20)], [True] * 10)
    evaluation = evaluator(FiveFaceEvalDataset(str(tmp_path), "all")).evaluate(net)
    found = json.loads(json.dumps(evaluation.to_json()))["same"]
    assert 0 <= found["accuracy"] <= 1
    assert (found["num_pairs"], found["num_same"], found["num_different"]) == (10, 10, 0)
    for key in ("tar_at_far_1e-3", "tar_at_far_1e-3_std", "measured_far", "auc", "eer"):
        assert found[key] is None
    assert set(found["tar_at_far"].values()) == set(found["threshold_at_far"].values()) == {None}
    assert "n/a" in evaluation.table()


def test_eval_json_keeps_its_keys_and_says_thresholds_both_ways(net, tiny_data, tmp_path):
    evaluation = evaluator(FiveFaceEvalDataset(str(tiny_data), "all")).evaluate(net)
    evaluation.save(tmp_path / "eval.json")
    found = json.loads((tmp_path / "eval.json").read_text())
    assert list(found) == ["cfp_fp", "lfw", "average_accuracy"]
    assert found["average_accuracy"] == np.mean([found[name]["accuracy"] for name in ("cfp_fp", "lfw")])
    lfw = found["lfw"]
    assert lfw["cosine_threshold"] == 1 - lfw["threshold"] / 2
    assert lfw["threshold"] == np.mean(lfw["fold_threshold"])
    assert lfw["accuracy"] == pytest.approx(np.mean(lfw["fold_accuracy"]))
    assert list(lfw["tar_at_far"]) == ["1e-1", "1e-2", "1e-3", "1e-4", "1e-5", "1e-6"]
    assert lfw["tar_at_far"]["1e-1"] is not None  # 10 pairs of different people
    assert lfw["tar_at_far"]["1e-2"] is None


def test_a_broken_set_is_told_before_training(tiny_net_config, tmp_path):
    images = [jpeg(picture(i, i)) for i in range(10)]
    write_bin(tmp_path / "small.bin", images, [True] * 5)
    changes = {"DataLoader.Eval.dataset.val_data_path": str(tmp_path), "DataLoader.Eval.dataset.val_targets": "all"}
    config, _ = load_config(tiny_net_config(**changes))
    with pytest.raises(ValueError, match=r"^small: 5 pairs cannot be split into 10 folds"):
        Engine(config).train()
    (tmp_path / "small.bin").write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"small\.bin is damaged, truncated or not a pickle"):
        Engine(config).train()
    assert not list((tmp_path / "output").glob("*.pdparams"))


@pytest.mark.slow
def test_training_and_evaluation_write_the_report_when_asked(tiny_net_config, tmp_path):
    config, _ = load_config(tiny_net_config(), ["Global.report=True", "Global.epochs=1", "Optimizer.lr.warmup_epoch=0"])
    Engine(config).train()
    assert "epoch 1" in (tmp_path / "output" / "report" / "index.html").read_text()
    again = [f"Global.pretrained_model={tmp_path}/output/latest", f"Global.output_dir={tmp_path}/again"]
    assert main(["eval", "--report", "-o", *again]) == 0
    page = (tmp_path / "again" / "report" / "index.html").read_text()
    assert f"{tmp_path}/output/latest" in page
    assert page.count("data:image/jpeg") == 2 * 2 * 10 * 2  # sets x kinds x pairs x faces


def test_pair_lists_are_named_in_the_yaml(tiny_net_config, tmp_path, log_lines):
    root = folder_of_pictures(tmp_path)
    for dataset in (
        {"name": "LFWEvalDataset", "image_root": root, "pairs_path": str(tmp_path / "pairs.txt")},
        {"name": "FaceEvalDataset", "dataset_root": root, "pair_label_path": str(tmp_path / "list.txt")},
    ):
        transforms = [{"DecodeImage": None}, {"NormalizeImage": None}]
        path = tiny_net_config(**{"DataLoader.Eval.dataset": {**dataset, "transform_ops": transforms}})
        config, _ = load_config(path, [], "eval")
        evaluation = Engine(config).evaluate()
        (name,) = evaluation.results
        assert f"Evaluation sets: {name} (20 pairs of 20 images)" in log_lines.text
        assert evaluation.results[name].num_pairs == 20
