"""PyTorch's files are read without PyTorch, and nothing that is in them is run."""

from __future__ import annotations

import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from torch_writer import Call, Instance, Named, TorchWriter, save_torch

from ppfacerec.core.io.safe_pickle import UnsafePickleError
from ppfacerec.weights.formats.torch_file import TorchFile
from ppfacerec.weights.read import read_any

A = np.arange(12, dtype=np.float32).reshape(3, 4)


def arrays(path):
    with TorchFile(str(path)) as file:
        return {name: view.numpy() for name, view in file.tree.items()}


@pytest.fixture(params=["zip", "legacy"])
def write(request):
    return lambda writer, path, tree: (writer.write if request.param == "zip" else writer.write_legacy)(path, tree)


def test_tensors_of_every_dtype_are_what_was_saved(tmp_path, write):
    writer = TorchWriter()
    saved = {"a": A, "half": A.astype("float16"), "double": A.astype("float64"), "count": np.array(7)}
    tree = {name: writer.tensor(array) for name, array in saved.items()}
    tree["bfloat16"] = writer.tensor(A, bfloat16=True)
    read = arrays(write(writer, tmp_path / "w.pth", tree))
    for name, array in saved.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    assert read["bfloat16"].dtype == np.float32
    np.testing.assert_array_equal(read["bfloat16"], A)  # small integers are exact


def test_views_see_their_part_of_a_shared_storage(tmp_path, write):
    writer = TorchWriter()
    storage = writer.store(A.reshape(-1))
    tree = {
        "whole": writer.view(storage, 0, (3, 4), (4, 1)),
        "transposed": writer.view(storage, 0, (4, 3), (1, 4)),
        "column": writer.view(storage, 2, (3,), (4,)),
        "empty": writer.view(storage, 12, (0, 4), (4, 1)),
    }
    read = arrays(write(writer, tmp_path / "w.pth", tree))
    np.testing.assert_array_equal(read["transposed"], A.T)
    np.testing.assert_array_equal(read["column"], A[:, 2])
    assert read["empty"].shape == (0, 4)
    assert np.shares_memory(read["whole"], read["column"])  # read once


def test_a_parameter_is_its_tensor(tmp_path):
    writer = TorchWriter()
    parameter = Call(Named("torch._utils", "_rebuild_parameter"), writer.tensor(A), True, OrderedDict())
    np.testing.assert_array_equal(arrays(writer.write(tmp_path / "w.pth", {"p": parameter}))["p"], A)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (3, 5), (5, 1)), (1, (3, 4), (4, 1)), (0, (10**9,), (0,)), (0, (2, 2), (2**40, 1)), (-1, (2,), (1,))],
)
def test_a_tensor_outside_of_its_storage_is_refused(tmp_path, write, offset, shape, strides):
    writer = TorchWriter()
    tree = {"a": writer.view(writer.store(A.reshape(-1)), offset, shape, strides)}
    with pytest.raises(ValueError, match="does not fit into its storage of 12 numbers|are not sizes"):
        arrays(write(writer, tmp_path / "w.pth", tree))


def test_many_views_of_one_storage_do_not_fill_the_memory(tmp_path):
    writer = TorchWriter()
    storage = writer.store(np.zeros(100_000, np.float32))
    tree = {str(i): writer.view(storage, 0, (100_000,), (1,)) for i in range(1000)}
    with pytest.raises(ValueError, match="expand to far more than the file holds"):
        read_any(writer.write(tmp_path / "w.pth", tree))


@pytest.mark.parametrize(
    "hostile",
    [
        Call(Named("os", "system"), "touch hacked"),
        Call(Named("builtins", "eval"), "open('hacked', 'w')"),
        Call(Named("builtins", "getattr"), "a", "b"),
        Named("posix", "system"),
        Instance(Named("subprocess", "Popen"), {"args": ["touch", "hacked"]}),
    ],
)
def test_a_hostile_file_is_refused_and_nothing_is_run(tmp_path, monkeypatch, write, hostile):
    monkeypatch.chdir(tmp_path)
    writer = TorchWriter()
    path = write(writer, tmp_path / "w.pth", {"a": writer.tensor(A), "b": hostile})
    with pytest.raises(UnsafePickleError, match=r"is not safe to open: it tries to import .* Nothing was executed"):
        read_any(path)
    assert [p.name for p in tmp_path.iterdir()] == ["w.pth"]


def test_a_whole_pickled_model_says_how_to_save_it_instead(tmp_path):
    writer = TorchWriter()
    model = Instance(Named("backbones.iresnet", "IResNet"), {"_parameters": {}})
    with pytest.raises(
        UnsafePickleError, match=r"import backbones\.iresnet\.IResNet \(if a whole model .* state_dict\(\)"
    ):
        read_any(writer.write(tmp_path / "w.pth", model))


def test_what_lightning_keeps_beside_the_weights_is_left_alone(tmp_path):
    callback = Named("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")

    def checkpoint(state):
        return {
            "epoch": 3,
            "callbacks": {"x": callback, "y": Instance(callback, {"best": 1})},
            "hyper_parameters": Call(Named("argparse", "Namespace")),
            "lr_schedulers": [{"milestones": Call(Named("collections", "Counter"), {3: 1})}],
            "state_dict": OrderedDict((f"model.{k}", v) for k, v in state.items()),
        }

    weights = read_any(save_torch(tmp_path / "w.ckpt", {"conv.weight": A.reshape(3, 4, 1, 1)}, checkpoint))
    assert list(weights.backbone) == ["conv.weight"]


def test_a_torchscript_module_gives_its_tensors_by_their_place(tmp_path):
    writer = TorchWriter()
    module = Named("__torch__.nn.Module", "Net")
    inner = Instance(module, {"training": False, "weight": writer.tensor(A.reshape(3, 4, 1, 1))})
    path = writer.write(tmp_path / "script.pt", Instance(module, {"training": False, "conv1": inner}))
    np.testing.assert_array_equal(read_any(path).backbone["conv1.weight"], A.reshape(3, 4, 1, 1))


def test_a_file_without_tensors_says_what_it_holds(tmp_path):
    with pytest.raises(ValueError, match=r"no tensors found where .* \(it holds a dict with epoch, opt\)"):
        read_any(TorchWriter().write(tmp_path / "w.pth", {"epoch": 1, "opt": {}}))


def test_quantised_tensors_are_refused_by_name(tmp_path):
    path = save_torch(tmp_path / "w.pth", {"a": A})
    data = zipfile.ZipFile(path).read("archive/data.pkl").replace(b"FloatStorage", b"QInt8Storage")
    with zipfile.ZipFile(tmp_path / "q.pth", "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", A.tobytes())
    with pytest.raises(
        ValueError, match="a tensor is a QInt8Storage; only DoubleStorage, FloatStorage, .*no quantised"
    ):
        arrays(tmp_path / "q.pth")


def test_damage_is_named(tmp_path, write):
    writer = TorchWriter()
    path = write(writer, tmp_path / "w.pth", {"a": writer.tensor(np.random.default_rng(0).random(5000))})
    content = path.read_bytes()
    for cut in (0, 1, 10, 60, 200, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError, match=str(path)):
            read_any(path)


def test_a_zip_archive_that_was_cut_off_is_called_so(tmp_path):
    path = save_torch(tmp_path / "w.pth", {"a": A})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="a truncated zip archive, without its end"):
        read_any(path)


def test_a_flipped_bit_in_the_numbers_is_found(tmp_path):
    path = save_torch(tmp_path / "w.pth", {"a": np.zeros(5000, np.float32)})
    content = bytearray(path.read_bytes())
    content[content.index(b"\0" * 1000) + 500] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="Bad CRC-32"):
        read_any(path)


def test_a_compressed_archive_is_refused(tmp_path):
    """A few kilobytes would unfold to gigabytes."""
    writer = TorchWriter()
    path = writer.write(tmp_path / "w.pth", {"a": writer.tensor(np.zeros(10**6))}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="is compressed or encrypted, which PyTorch never does"):
        read_any(path)


def test_any_changed_bytes_are_read_or_refused(tmp_path, write):
    """Nothing but a ValueError leaves the reader, whatever the file says."""
    writer = TorchWriter()
    path = write(
        writer, tmp_path / "w.pth", {"a": writer.tensor(A), "b": writer.tensor(A, bfloat16=True), "c": [1, "x"]}
    )
    content, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        changed = np.frombuffer(content, np.uint8).copy()
        places = rng.integers(0, len(changed), rng.integers(1, 4))
        changed[places] = rng.integers(0, 256, len(places))
        path.write_bytes(changed.tobytes())
        try:
            read_any(path)
        except ValueError:
            refused += 1
    assert refused > 100


def test_torch_itself_agrees(tmp_path):
    """Where torch is installed: its own files, both formats, against what it was given."""
    torch = pytest.importorskip("torch")
    tensor = torch.randn(5, 6)
    state = {
        "a": tensor,
        "t": tensor.t(),
        "h": tensor.half(),
        "b": tensor.bfloat16(),
        "p": torch.nn.Parameter(tensor[1:]),
    }
    for is_zip in (True, False):
        torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=is_zip)
        read = arrays(tmp_path / "w.pth")
        for name, value in state.items():
            np.testing.assert_array_equal(read[name], value.detach().float().numpy().astype(read[name].dtype))
