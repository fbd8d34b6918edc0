"""Laws of the random transforms: uint8 in and out, repeatable, as often as asked, and right against a plain version."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import picture

from ppfacerec.core.registry import Spec
from ppfacerec.data.transforms.basic import TRANSFORMS

IMAGE = picture(0, 0)
RANDOM = ["RandCropPad", "RandLowResolution", "RandPhotometric", "RandBlur", "RandJPEG", "RandGrey"]


def build(name, **kwargs):
    return TRANSFORMS.build(Spec(name, kwargs))


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", [*RANDOM, "RandomErasing"])
def test_shape_and_kind_stay_and_the_image_given_is_not_touched(name):
    transform, before = build(name, **{"EPSILON" if name == "RandomErasing" else "prob": 1}), IMAGE.copy()
    for seed in range(20):
        out = transform(IMAGE, rng(seed))
        assert out.shape == IMAGE.shape
        assert out.dtype == np.uint8
        np.testing.assert_array_equal(out, transform(IMAGE, rng(seed)))
    np.testing.assert_array_equal(IMAGE, before)


@pytest.mark.parametrize("name", [*RANDOM, "RandomErasing"])
@pytest.mark.parametrize("prob", [0, 0.3, 1])
def test_it_happens_as_often_as_asked(name, prob):
    transform = build(name, **{"EPSILON" if name == "RandomErasing" else "prob": prob})
    generator, count = rng(), 400
    changed = sum(transform(IMAGE, generator) is not IMAGE for _ in range(count))
    assert abs(changed - prob * count) <= 5 * np.sqrt(prob * (1 - prob) * count)


def test_crop_pad_keeps_a_part_in_its_place():
    shares = []
    for seed in range(200):
        out = build("RandCropPad", prob=1)(IMAGE, rng(seed))
        kept = out.any(axis=2)
        rows, columns = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        np.testing.assert_array_equal(out[part], IMAGE[part])
        shares.append(len(rows) * len(columns) / 112**2)
    assert 0.19 < min(shares) < 0.3
    assert 0.9 < max(shares) <= 1


def test_low_resolution_of_full_size_changes_little_and_of_a_fifth_much():
    def change(scale):
        out = build("RandLowResolution", prob=1, scale=scale)(IMAGE, rng())
        return np.abs(out.astype(int) - IMAGE).mean()

    assert change((1, 1)) == 0
    assert change((0.2, 0.2)) > 5


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_photometric_equals_the_plain_formula(name):
    """factor * image + (1 - factor) * reference, with black, the mean grey or the pixel's grey as reference."""
    strengths = dict.fromkeys(("brightness", "contrast", "saturation"), 0.0) | {name: 0.5}
    grey = (IMAGE @ np.array([0.299, 0.587, 0.114]))[:, :, None]
    reference = {"brightness": 0.0, "contrast": np.rint(grey).mean(), "saturation": grey}[name]
    for seed in range(10):
        generator = rng(seed)
        generator.random()
        order = generator.permutation(3)
        drawn = generator.uniform(-1, 1, 3)[list(order).index(list(strengths).index(name))]
        factor = 1 + 0.5 * drawn
        expected = np.clip(factor * IMAGE + (1 - factor) * reference, 0, 255)
        out = build("RandPhotometric", prob=1, **strengths)(IMAGE, rng(seed))
        assert np.abs(out - expected).max() <= 1.5


def test_grey_has_three_equal_channels():
    out = build("RandGrey", prob=1)(IMAGE, rng())
    assert (out == out[:, :, :1]).all()
    assert np.abs(out[:, :, 0] - IMAGE @ np.array([0.299, 0.587, 0.114])).max() <= 1


def test_jpeg_keeps_the_colours_apart():
    red = np.zeros((112, 112, 3), np.uint8)
    red[:, :, 0] = 200
    out = build("RandJPEG", prob=1)(red, rng())
    assert out[:, :, 0].mean() > 190
    assert out[:, :, 2].mean() < 10


def test_blur_keeps_the_mean_and_takes_detail():
    out = build("RandBlur", prob=1, sigma=(2, 2))(IMAGE, rng())
    assert abs(out.mean() - IMAGE.mean()) < 1
    assert np.abs(np.diff(out.astype(int), axis=0)).mean() < np.abs(np.diff(IMAGE.astype(int), axis=0)).mean() / 2


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_erasing_covers_a_rectangle_of_the_area_asked(mode):
    for seed in range(30):
        out = build("RandomErasing", EPSILON=1, mode=mode, sl=0.1, sh=0.2)(IMAGE, rng(seed))
        covered = (out != IMAGE).any(axis=2)
        rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
        assert 0.09 < len(rows) * len(columns) / 112**2 < 0.21
        inside = out[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].reshape(-1, 3)
        assert len(np.unique(inside, axis=0)) == 1 if mode != "pixel" else len(np.unique(inside, axis=0)) > 100


def test_paddleclas_crops():
    large = picture(1, 0, size=160)
    np.testing.assert_array_equal(build("CropImage", size=112)(large, rng()), large[24:136, 24:136])
    np.testing.assert_array_equal(build("CropImage", size=(100, 120))(large, rng()), large[20:140, 30:130])
    assert build("RandCropImage", size=112)(large, rng()).shape == (112, 112, 3)
    np.testing.assert_array_equal(build("RandCropImage", size=160, scale=(1, 1), ratio=(1, 1))(large, rng()), large)
    with pytest.raises(ValueError, match="CropImage of 200 x 200 does not fit into an image of 160 x 160"):
        build("CropImage", size=200)(large, rng())


@pytest.mark.parametrize(
    ("name", "kwargs", "expected"),
    [
        ("RandGrey", {"prob": 1.5}, "prob: expected a number from 0 to 1, found 1.5."),
        ("RandCropPad", {"scale": (0.5, 0.2)}, "scale: expected two positive numbers, ascending, found [0.5, 0.2]."),
        ("RandLowResolution", {"scale": (0.5, 2)}, "scale: expected two positive numbers, ascending, at most 1, found"),
        ("RandBlur", {"sigma": (0, 1)}, "sigma: expected two positive numbers, ascending, found [0, 1]."),
        (
            "RandJPEG",
            {"quality": (50, 101)},
            "quality: expected two numbers from 1 to 100, ascending, found [50, 101].",
        ),
        ("RandPhotometric", {"contrast": -1}, "contrast: expected a number from 0 to 1, found -1."),
        ("RandomErasing", {"sl": 0.5, "sh": 0.4}, "sl: expected 0 < sl <= sh < 1, found 0.5 and 0.4."),
        ("RandomErasing", {"r1": 0}, "r1: expected a number above 0 and up to 1, found 0."),
        ("RandomErasing", {"EPSILON": 2}, "EPSILON: expected a number from 0 to 1, found 2."),
    ],
)
def test_a_bad_number_is_named(name, kwargs, expected):
    with pytest.raises(ValueError) as caught:
        build(name, **kwargs)
    assert str(caught.value).startswith(expected)
