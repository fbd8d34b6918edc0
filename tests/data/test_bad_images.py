"""Laws of bad images: named, counted, replaced the same way everywhere, and never too many of them."""

from __future__ import annotations

import numpy as np
import pytest

from ppfacerec.core.registry import Spec
from ppfacerec.data.datasets.base import ImageNetDataset
from ppfacerec.data.loading.bad_images import BadImages
from ppfacerec.data.loading.loader import TrainLoader
from ppfacerec.data.loading.sampler import DistributedBatchSampler
from ppfacerec.data.transforms.basic import Pipeline

OPS = [Spec("DecodeImage"), Spec("RandFlipImage"), Spec("NormalizeImage")]
BAD = {3: b"", 8: b"no image at all", 9: b"truncated", 19: None}  # None: the file is missing


@pytest.fixture
def damaged(tiny_data, tmp_path):
    """tiny_data's twenty images with four bad ones, the last sample among them."""
    dataset = ImageNetDataset(str(tiny_data), str(tiny_data / "label.txt"))
    lines = []
    for i in range(len(dataset)):
        content = dataset.read(i)
        bad = BAD.get(i, content)
        bad = content[: len(content) // 2] if bad == b"truncated" else bad
        if bad is not None:
            (tmp_path / f"{i:02d}.jpg").write_bytes(bad)
        lines.append(f"{i:02d}.jpg\t{dataset.labels[i]}\n")
    (tmp_path / "label.txt").write_text("".join(lines))
    return tmp_path


def make_loader(root, num_workers=0, shuffle=True, **policy):
    dataset = ImageNetDataset(str(root), str(root / "label.txt"))
    sampler = DistributedBatchSampler(len(dataset), 3, shuffle=shuffle)
    return TrainLoader(dataset, Pipeline(OPS), sampler, num_workers, bad_images=BadImages(**policy))


def batches(loader, epoch=1):
    with_copies = [(b.images.numpy(), b.labels.numpy(), b.indices) for b in loader.epoch(epoch)]
    loader.close()
    return [np.concatenate(parts) for parts in zip(*with_copies)]


def test_the_next_good_sample_stands_in_with_its_own_label(damaged, tiny_data):
    images, labels, indices = batches(make_loader(damaged, shuffle=False, on_bad_image="skip"))
    assert indices.tolist() == [0, 1, 2, 4, 4, 5, 6, 7, 10, 10, 10, 11, 12, 13, 14, 15, 16, 17, 18, 0]
    dataset = ImageNetDataset(str(tiny_data), str(tiny_data / "label.txt"))
    np.testing.assert_array_equal(labels, dataset.labels[indices])
    plain = Pipeline([OPS[0], OPS[2]])
    for image, index in zip(images, indices):
        right = plain(dataset.read(index), "test")
        assert np.array_equal(image, right) or np.array_equal(image, right[:, ::-1])


def test_stand_ins_do_not_depend_on_the_workers(damaged):
    alone = batches(make_loader(damaged, on_bad_image="skip"))
    for num_workers in (1, 3):
        for x, y in zip(alone, batches(make_loader(damaged, num_workers, on_bad_image="skip"))):
            np.testing.assert_array_equal(x, y)


def test_each_bad_image_is_listed_once_with_its_reason(damaged, tmp_path, log_lines):
    listed = tmp_path / "bad_images.txt"
    for _ in range(2):  # as a resumed run
        loader = make_loader(damaged, 1, on_bad_image="skip", list_path=listed)
        batches(loader, 1)
        batches(loader, 2)
        assert len(loader.bad_images) == 4
    lines = sorted(listed.read_text().splitlines(), key=lambda line: line.split("(")[1])
    assert len(lines) == 4
    for line, number, words in zip(
        lines, (4, 9, 10, 20), ("0 bytes", "b'no image'", "JPEG is truncated", "cannot read")
    ):
        assert f"label.txt, line {number} (" in line
        assert words in line
    assert sum("replaced by the next good one" in record.message for record in log_lines.records) == 8


@pytest.mark.parametrize("num_workers", [0, 2])
def test_too_many_bad_images_end_the_run(damaged, tmp_path, num_workers):
    listed = tmp_path / "bad_images.txt"
    loader = make_loader(damaged, num_workers, on_bad_image="skip", max_bad_images=3, list_path=listed)
    with pytest.raises(ValueError) as caught:
        batches(loader)
    message = str(caught.value)
    assert message.startswith("More than max_bad_images (3) training images cannot be used. They are listed in ")
    assert message.endswith("Repair the data, or set DataLoader.Train.loader.max_bad_images higher.")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_nothing_but_bad_images_is_an_error(tmp_path, num_workers):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    (tmp_path / "label.txt").write_text("bad.jpg\t0\n" * 5)
    with pytest.raises(ValueError, match=r"More than max_bad_images \(1000\).*line \d \(bad\.jpg\) does not decode"):
        batches(make_loader(tmp_path, num_workers, on_bad_image="skip", max_bad_images=1000))


def test_without_skip_the_first_bad_image_ends_the_run(damaged):
    with pytest.raises(ValueError, match=r"label\.txt, line 4 \(03\.jpg\) does not decode as an image: 0 bytes"):
        batches(make_loader(damaged, shuffle=False))
