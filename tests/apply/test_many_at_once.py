"""A model may be used and loaded by any number of threads and processes at once."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import paddle
import psutil
import pytest
from conftest import picture
from launching import ROOT
from tiny_plugin import TinyNet

import ppfacerec
from ppfacerec.backbones import MobileFaceNet
from ppfacerec.core import log
from ppfacerec.core.device import inference
from ppfacerec.core.device.inference import InferenceRunner
from ppfacerec.core.device.paddle_thread import PADDLE_LOCK, PADDLE_THREAD, Remade
from ppfacerec.export import export_model
from ppfacerec.export.convert_weights import write_pdparams
from ppfacerec.inference import loading
from ppfacerec.weights.info import ModelInfo, info_path

PICTURES = [picture(k, 0) for k in range(12)]
needs_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Paths: weights, and an exported folder of them."""
    paddle.seed(0)
    folder = tmp_path_factory.mktemp("model")
    net = TinyNet()
    write_pdparams(folder / "w.pdparams", {k: v.numpy() for k, v in net.state_dict().items()})
    info = ModelInfo({"name": "TinyNet"}, 16)
    info.save(info_path(folder / "w.pdparams"))
    export_model(net, info, folder / "exported")
    return {"weights": str(folder / "w.pdparams"), "exported": str(folder / "exported")}


def forget_what_was_loaded():
    loading._LAST_RUNNER, loading._LAST_PREDICTOR = loading._Last(), loading._Last()


@pytest.fixture(autouse=True)
def _nothing_is_loaded():
    forget_what_was_loaded()


def embed_all(model):
    return np.stack([model.embed(image) for image in PICTURES])


def send(pipe, function, arguments):
    pipe.send(function(*arguments))


def in_process(kind, function, *arguments):
    """The function's result in a process of its own, which is gone afterwards; TimeoutError, EOFError after a crash."""
    context = multiprocessing.get_context(kind)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=send, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        if not receiver.poll(45):
            raise TimeoutError
        return receiver.recv()
    finally:
        process.kill()
        process.join()


def embed_all_after_loading(model):
    forget_what_was_loaded()
    return embed_all(ppfacerec.load(model.name))


@pytest.mark.parametrize("kind", ["weights", "exported"])
def test_threads_get_their_own_images_embeddings(models, kind):
    model = ppfacerec.load(models[kind])
    expected = embed_all(model)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: embed_all(model), range(12)):
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_threads_may_run_eagerly(models, monkeypatch):
    monkeypatch.setattr(inference, "PARITY_TOLERANCE", -1.0)
    model = ppfacerec.load(models["weights"])
    expected = embed_all(model)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: embed_all(model), range(8)):
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_threads_may_load_at_once_while_others_embed(models):
    first = ppfacerec.load(models["weights"])
    expected = embed_all(first)
    start = threading.Barrier(4)

    def work(number):
        start.wait()
        return embed_all(ppfacerec.load(models["weights"]) if number % 2 else first)

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(work, range(4)):
            np.testing.assert_allclose(found, expected, atol=1e-6)


@needs_fork
@pytest.mark.parametrize("work", [embed_all, embed_all_after_loading])
@pytest.mark.parametrize("kind", ["weights", "exported"])
def test_a_fork_uses_the_model_while_its_parents_threads_use_it(models, kind, work, monkeypatch):
    # A file that a thread is writing a log line to as the process forks stays locked in the new one: Python's.
    monkeypatch.setattr(log.logger, "disabled", True)
    model = ppfacerec.load(models[kind])
    expected = embed_all(model)
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            model.embed(PICTURES[0])

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        found = in_process("fork", work, model)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_predictors_run_in_one_thread_that_stays(models, monkeypatch):
    """Paddle clears what it keeps by thread where one ends, and a process forked at that moment waited for ever."""
    used = set()
    run = inference.Predictor._run

    def noted(predictor, images):
        used.add(threading.get_native_id())
        return run(predictor, images)

    monkeypatch.setattr(inference.Predictor, "_run", noted)
    model = ppfacerec.load(models["exported"])
    for _ in range(2):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: embed_all(model), range(4)))
    assert len(used) == 1


AFTER_THE_END = """
import sys, threading, time
import numpy as np
import ppfacerec

model = ppfacerec.load(sys.argv[1])
model.embed(np.arange(112 * 112 * 3, dtype=np.uint8).reshape(112, 112, 3))

def serve():
    while threading.main_thread().is_alive():
        time.sleep(0.01)
    print(model.embed(np.arange(112 * 112 * 3, dtype=np.uint8).reshape(112, 112, 3)).shape, "after the end")

threading.Thread(target=serve).start()
"""


@pytest.mark.slow
def test_a_thread_embeds_when_the_main_thread_has_ended(models):
    """As a server's does that the last line of a script starts."""
    command, environment = [sys.executable, "-c", AFTER_THE_END, models["exported"]], {**os.environ, "PYTHONPATH": "."}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "(16,) after the end" in done.stdout, done.stderr
    assert done.returncode == 0


@pytest.mark.slow
def test_a_spawned_process_loads_the_model_anew(models):
    model = ppfacerec.load(models["exported"])
    np.testing.assert_allclose(in_process("spawn", embed_all, model), embed_all(model), atol=1e-6)


def write_mobilefacenet(path):
    net = MobileFaceNet()
    write_pdparams(path, {k: v.numpy() for k, v in net.state_dict().items()})
    return str(path)


@pytest.mark.parametrize("kind", ["weights", "exported"])
def test_loading_again_makes_nothing_anew(models, tmp_path, monkeypatch, kind):
    """Paddle never frees all of a network that it made, so the last one of ours is not made again."""
    path = models["exported"] if kind == "exported" else write_mobilefacenet(tmp_path / "w.pdparams")
    made, native = [], inference.native_predictor
    for module in (inference, loading):
        monkeypatch.setattr(module, "native_predictor", lambda *args: made.append(args) or native(*args))
    for _ in range(3):
        ppfacerec.load(path).embed(PICTURES[0])
    assert len(made) == 1


def test_what_was_loaded_last_is_not_taken_for_other_weights(tmp_path):
    first, second = (write_mobilefacenet(tmp_path / name) for name in ("a.pdparams", "b.pdparams"))
    network = ppfacerec.load(first), ppfacerec.load(first), ppfacerec.load(second)
    found = [model.embed(PICTURES[0]) for model in network]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[2] - found[0]).max() > 1e-3


def test_a_network_of_the_users_is_made_anew(models, monkeypatch):
    """A notebook may change it, and what it is made of, without another name."""
    first = embed_all(ppfacerec.load(models["weights"]))
    original = TinyNet.forward
    monkeypatch.setattr(TinyNet, "forward", lambda self, images: -original(self, images))
    np.testing.assert_allclose(embed_all(ppfacerec.load(models["weights"])), -first, atol=1e-5)


@pytest.mark.slow
def test_tracing_again_and_again_keeps_no_call_stacks():
    net = TinyNet()
    net.eval()
    image = np.zeros((1, 3, 112, 112), np.float32)
    InferenceRunner(net)(image)  # what Paddle takes once in a process
    before = psutil.Process().memory_info().rss
    for _ in range(20):
        InferenceRunner(net)(image)
    assert psutil.Process().memory_info().rss - before < 20 << 20


@needs_fork
@pytest.mark.parametrize("kind", ["weights", "exported"])
def test_no_thread_of_paddles_is_there_while_a_process_forks(models, kind):
    """A thread that ends in the new process would write into the memory of those that were there, and are not."""
    model = ppfacerec.load(models[kind])
    expected = embed_all(model)
    assert threads_of_paddle() > 0
    assert in_process("fork", threads_of_paddle) == 0
    assert threads_of_paddle() == 0
    np.testing.assert_array_equal(embed_all(model), expected)
    assert in_process("fork", threads_of_paddle) == 0


def threads_of_paddle():
    """Predictors, which have a thread of their own each, and the one that runs them."""
    remade = sum(one._native is not None for one in PADDLE_THREAD.remade)
    return remade + (PADDLE_THREAD._thread is not None)


@needs_fork
@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(path.read_bytes() + b"1")])
def test_an_exported_model_that_has_changed_is_not_taken_for_the_one_that_was_loaded(models, tmp_path, change):
    folder = shutil.copytree(models["exported"], tmp_path / "model")
    model = ppfacerec.load(folder)
    embed_all(model)
    change(folder / "inference.pdiparams")
    embed_all(model)
    error = in_process("fork", error_of, model)
    assert error == (
        f"{folder}: the exported model was changed or removed after it was loaded. After a fork its files are read "
        "again: keep them as they are, or load the model in the new process."
    )


@needs_fork
def test_a_daemon_may_change_its_folder_after_the_fork(models, monkeypatch):
    exported = Path(models["exported"])
    monkeypatch.chdir(exported.parent)
    model = ppfacerec.load(exported.name)
    np.testing.assert_array_equal(in_process("fork", embed_all_elsewhere, model), embed_all(model))


def embed_all_elsewhere(model):
    os.chdir("/")
    return embed_all(model)


LOADS_WHEN_IT_IS_IMPORTED = """
import sys, tiny_plugin, ppfacerec
MODEL = ppfacerec.load(sys.argv[1])
"""


@pytest.mark.slow
def test_a_plugin_may_load_weights_when_it_is_imported(models, tmp_path, tiny_net_config):
    """The config beside them names the plugin, which is being imported."""
    shutil.copy(models["weights"], tmp_path)
    tiny_net_config(**{"Global.plugins": ["mynet"]})
    (tmp_path / "mynet.py").write_text(LOADS_WHEN_IT_IS_IMPORTED)
    done = subprocess.run(
        [sys.executable, "-c", "import mynet; print(type(mynet.MODEL).__name__)", str(tmp_path / "w.pdparams")],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{tmp_path}"},
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "FaceModel\n", done.stderr


def test_where_no_thread_can_start_the_next_call_is_answered(monkeypatch):
    PADDLE_THREAD._end()
    PADDLE_LOCK.release()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda thread: raise_no_thread())
        with pytest.raises(RuntimeError, match="new thread"):
            PADDLE_THREAD.run(int)
    assert PADDLE_THREAD.run(int) == 0


def raise_no_thread():
    raise RuntimeError("can't start new thread")


def error_of(model):
    with pytest.raises(ValueError) as caught:
        embed_all(model)
    return str(caught.value)


def test_what_is_let_go_is_destroyed_in_the_thread_that_made_it():
    threads = []

    class Native:
        def __init__(self):
            threads.append(threading.get_ident())

        __del__ = __init__

    Remade(Native)
    PADDLE_THREAD.run(gc.collect)
    made_in, destroyed_in = threads
    assert made_in == destroyed_in != threading.get_ident()


@needs_fork
def test_a_network_may_fork_itself():
    assert PADDLE_THREAD.run(lambda: in_process("fork", PADDLE_THREAD.run, int)) == 0


AT_THE_FORK = """
import os, threading
there = []
os.register_at_fork(before=lambda: there.append(len(os.listdir("/proc/self/task"))))  # the last to run before a fork
from ppfacerec.core.device.paddle_thread import PADDLE_THREAD
alone = len(os.listdir("/proc/self/task"))
for _ in range(50):
    PADDLE_THREAD.run(int)
    if not (child := os.fork()):
        os._exit(0)
    os.waitpid(child, 0)
print(set(there) == {alone})
"""


@needs_fork
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists a process's threads in /proc")
def test_the_threads_own_end_is_waited_for():
    """Python's join returns before Paddle has counted what the thread leaves."""
    done = subprocess.run([sys.executable, "-c", AT_THE_FORK], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "True\n", done.stderr


@needs_fork
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python's of hooks of forks
def test_an_interrupt_at_a_fork_leaves_both_processes_a_thread():
    def interrupt_the_fork():
        while PADDLE_THREAD._thread:  # until it waits for this
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)

    PADDLE_THREAD.run(int)
    PADDLE_THREAD._tasks.put(interrupt_the_fork)
    before = signal.signal(signal.SIGINT, lambda *_: raise_interrupt())
    try:
        assert in_process("fork", PADDLE_THREAD.run, int) == 0
        assert PADDLE_THREAD.run(int) == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_error_keeps_nothing_of_what_was_run():
    class Large:
        pass

    def fail(large):
        raise ValueError

    large = Large()
    kept = weakref.ref(large)
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            PADDLE_THREAD.run(partial(fail, large))
        del large
        PADDLE_THREAD.run(int)  # the thread has gone on
        assert kept() is None
    finally:
        gc.enable()


INTERRUPTED = """
import os, signal, threading
import paddle
from ppfacerec.core.device.paddle_thread import PADDLE_THREAD

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
large = paddle.ones([1500, 1500])
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
while True:
    PADDLE_THREAD.run(lambda: large @ large)
"""


@pytest.mark.slow
def test_ctrl_c_ends_without_a_crash():
    """Python's end aborts a thread that is inside Paddle."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGINT, done.stderr
    assert done.stderr.endswith("KeyboardInterrupt\n")


def test_the_thread_survives_what_it_runs():
    with pytest.raises(KeyboardInterrupt):
        PADDLE_THREAD.run(raise_interrupt)
    assert PADDLE_THREAD.run(lambda: 7) == 7


def raise_interrupt():
    raise KeyboardInterrupt
