"""Laws of the training batches, and what a user is told of a bad image."""

from __future__ import annotations

import numpy as np
import pytest

from ppfacerec.core.registry import Spec
from ppfacerec.data.datasets.base import ImageNetDataset
from ppfacerec.data.loading.loader import TrainLoader
from ppfacerec.data.loading.sampler import DistributedBatchSampler
from ppfacerec.data.transforms.basic import NormalizeImage, Pipeline
from ppfacerec.data.transforms.images import decode_rgb
from ppfacerec.data.transforms.network_input import to_network_input

OPS = [Spec("DecodeImage"), Spec("RandFlipImage"), Spec("NormalizeImage")]


def make_loader(root, num_workers=0, ops=OPS, seed=1, label_file="label.txt"):
    dataset = ImageNetDataset(str(root), str(root / label_file))
    sampler = DistributedBatchSampler(len(dataset), 3, seed=seed)
    return TrainLoader(dataset, Pipeline(ops), sampler, num_workers, seed=seed)


def arrays(loader, epoch=1, start=0):
    return [(b.images.numpy(), b.labels.numpy(), b.indices) for b in loader.epoch(epoch, start)]


def assert_equal(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second):
        for x, y in zip(a, b):
            np.testing.assert_array_equal(x, y)


def test_images_and_labels_belong_together(tiny_data):
    loader = make_loader(tiny_data, ops=[Spec("DecodeImage"), Spec("NormalizeImage")])
    for images, labels, indices in arrays(loader):
        assert images.dtype == np.uint8
        assert images.shape[1:] == (112, 112, 3)
        for image, label, index in zip(images, labels, indices):
            assert loader.dataset.labels[index] == label
            np.testing.assert_array_equal(image, decode_rgb(loader.dataset.read(index), "test"))


@pytest.mark.slow
def test_batches_do_not_depend_on_the_number_of_workers(tiny_data):
    alone = arrays(make_loader(tiny_data))
    for num_workers in (1, 2):
        assert_equal(alone, arrays(make_loader(tiny_data, num_workers)))


def test_augmentation_repeats_by_seed_epoch_and_sample(tiny_data):
    loader = make_loader(tiny_data)
    assert_equal(arrays(loader), arrays(loader))
    assert_equal(arrays(loader)[3:], arrays(loader, start=3))
    by_epoch = [dict(zip(np.concatenate([i for _, _, i in b]), np.concatenate([x for x, _, _ in b])))
                for b in (arrays(loader, 1), arrays(loader, 2))]  # fmt: skip
    flipped = [not np.array_equal(by_epoch[0][i], by_epoch[1][i]) for i in by_epoch[0]]
    assert any(flipped)
    assert not all(flipped)


def test_normalized_batch_is_rgb_from_minus_one_to_one():
    image = np.zeros((1, 112, 112, 3), np.uint8)
    image[0, 0, 0] = (255, 0, 51)
    import paddle

    batch = to_network_input(paddle.to_tensor(image), NormalizeImage()).numpy()
    assert batch.shape == (1, 3, 112, 112)
    np.testing.assert_allclose(batch[0, :, 0, 0], [1, -1, (0.2 - 0.5) / 0.5], atol=1e-6)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bad_image_is_named_with_file_and_line(tiny_data, tmp_path, num_workers):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    (tmp_path / "label.txt").write_text("bad.jpg\t0\nbad.jpg\t1\nbad.jpg\t1\n")
    with pytest.raises(ValueError, match=r"label\.txt, line \d \(bad\.jpg\) does not decode as an image"):
        arrays(make_loader(tmp_path, num_workers))


def test_a_missing_image_is_named_with_file_and_line(tmp_path):
    (tmp_path / "label.txt").write_text("no.jpg\t0\nno.jpg\t0\nno.jpg\t0\n")
    with pytest.raises(
        ValueError, match=r"line \d \(no\.jpg\): cannot read .*no\.jpg \(No such file.*Is the image folder"
    ):
        arrays(make_loader(tmp_path))


def test_an_image_of_another_size_needs_resize(tmp_path):
    from conftest import jpeg, picture

    (tmp_path / "big.jpg").write_bytes(jpeg(picture(0, 0, size=160)))
    (tmp_path / "label.txt").write_text("big.jpg\t0\n")
    with pytest.raises(ValueError, match=r"the image is 160 x 160, the backbones take 112 x 112\. Add ResizeImage"):
        arrays(make_loader(tmp_path))
    resize = Spec("ResizeImage", {"size": (112, 112)})
    assert arrays(make_loader(tmp_path, ops=[OPS[0], resize, OPS[2]]))[0][0].shape == (1, 112, 112, 3)
