"""Laws of the trainer as a part of a library: built without a config, heard by callbacks, fair to a network's own modes."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from conftest import jpeg, picture
from paddle import nn
from tiny_plugin import PlainNet, TinyNet

from ppfacerec.data.loading.loader import TrainLoader
from ppfacerec.data.loading.sampler import DistributedBatchSampler
from ppfacerec.data.transforms.basic import DecodeImage, NormalizeImage, Pipeline
from ppfacerec.heads import ArcMargin
from ppfacerec.losses import CELoss, WeightedSum
from ppfacerec.recognizer import FaceRecognizer
from ppfacerec.training.callbacks import Activity, Callback
from ppfacerec.training.ema import EMA
from ppfacerec.training.monitoring.health import Health
from ppfacerec.training.state import TrainState
from ppfacerec.training.trainer import Trainer, TrainingPlan, TrainingStopped

CLASSES = 4


class Pictures:
    """Eight pictures of four people, without a file."""

    labels, num_classes = np.arange(8, dtype=np.int32) % CLASSES, CLASSES

    def __len__(self):
        return len(self.labels)

    def read(self, index):
        return jpeg(picture(index % CLASSES, index))

    def where(self, index):
        return f"picture {index}"


def loader():
    return TrainLoader(Pictures(), Pipeline([DecodeImage(), NormalizeImage()]), DistributedBatchSampler(8, 4))


def trainer(head=None, backbone=None, epochs=1, **rest):
    recognizer = FaceRecognizer(backbone or TinyNet(), head or ArcMargin(16, CLASSES, margin=0.1, scale=8))
    optimizer = paddle.optimizer.AdamW(0.01, parameters=recognizer.parameters())
    state = TrainState(recognizer, optimizer, **rest)
    return Trainer(state, WeightedSum({"CELoss": (CELoss(), 1.0)}), loader(), TrainingPlan(epochs, print_batch_step=1))


class Recorder(Callback):
    def __init__(self):
        self.heard, self.losses = [], []

    def __enter__(self):
        self.heard.append("enter")
        return self

    def __exit__(self, *exception):
        self.heard.append("exit")

    def on_train_begin(self, state):
        self.heard.append("train_begin")

    def on_forward(self, state, batch, embedding, losses):
        assert embedding.shape == [len(batch.indices), 16]
        self.heard.append("forward")

    def on_gradients(self, state):
        assert all(p.grad is not None for _, p in state.trained())
        self.heard.append("gradients")

    def on_step(self, state):
        self.heard.append(f"step {state.progress.global_step}")

    def on_batch(self, state):
        self.heard.append("batch")

    def on_log(self, state, row):
        self.losses.append(row["loss"])
        self.heard.append("log")

    def on_epoch(self, state, epoch):
        self.heard.append(f"epoch {epoch}")

    def on_stop(self, state):
        self.heard.append("stop")


def test_a_trainer_is_built_in_a_few_lines_and_the_loss_falls():
    paddle.seed(0)
    recorder = Recorder()
    trainer(epochs=10).train([recorder])
    assert recorder.losses[-1] < 0.7 * recorder.losses[0]


def test_a_callback_hears_every_event_in_order():
    recorder = Recorder()
    trainer().train([recorder])
    step = ["forward", "gradients"]
    assert recorder.heard == [
        "enter", "train_begin", *step, "step 1", "batch", "log", *step, "step 2", "batch", "log", "epoch 1", "exit",
    ]  # fmt: skip


def test_a_callback_can_stop_the_training_and_all_are_told():
    class Stopper(Callback):
        def on_step(self, state):
            self.wants_stop = True

    recorder = Recorder()
    with pytest.raises(TrainingStopped):
        trainer(epochs=5).train([Stopper(), recorder])
    assert recorder.heard[-3:] == ["log", "stop", "exit"]
    assert "step 2" not in recorder.heard


def test_what_the_main_thread_does_is_said_before_it_is_done():
    heard = []

    class Activities(Callback):
        def on_activity(self, activity):
            heard.append(activity)

    trainer().train([Activities()])
    one_step = [Activity.COMPUTING, Activity.EXCHANGING, Activity.COMPUTING, Activity.LOGGING, Activity.SAVING]
    assert heard == [Activity.READING, *one_step, Activity.READING, *one_step, Activity.READING,
                                Activity.SAVING]  # fmt: skip


def test_an_average_of_the_weights_is_kept_whoever_listens():
    recognizer = FaceRecognizer(PlainNet(), ArcMargin(16, CLASSES))
    ema = EMA(recognizer, 0.5)
    state = TrainState(recognizer, paddle.optimizer.SGD(0.1, recognizer.parameters()), ema=ema)
    before = ema.tensors()["backbone.fc.weight"].numpy().copy()
    Trainer(state, WeightedSum({"CELoss": (CELoss(), 1.0)}), loader(), TrainingPlan()).train()
    assert not np.array_equal(ema.tensors()["backbone.fc.weight"].numpy(), before)


def test_a_plain_layer_is_a_head_too():
    class Linear(nn.Layer):
        embedding_size = 16

        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(16, CLASSES)

        def forward(self, embedding, labels):
            return self.fc(embedding)

    head, recorder = Linear(), Recorder()
    before = head.fc.weight.numpy().copy()
    trainer(head).train([recorder])
    assert not np.array_equal(head.fc.weight.numpy(), before)


class FrozenNorms(TinyNet):
    """As who fine-tunes writes it: norms stay as they are, in whatever mode the network is."""

    def train(self):
        super().train()
        self.features[1].eval()


class Wrapped(nn.Layer):
    embedding_size = 16

    def __init__(self):
        super().__init__()
        self.inner = FrozenNorms(dropout=0.0)

    def forward(self, images):
        return self.inner(images)


@pytest.mark.parametrize("network", [FrozenNorms, Wrapped])
def test_a_network_with_a_train_of_its_own_is_asked(network):
    backbone = network()
    net = backbone.inner if network is Wrapped else backbone
    frozen, free = net.features[1]._mean.numpy().copy(), net.features[4]._mean.numpy().copy()
    trainer(backbone=backbone).train()
    np.testing.assert_array_equal(net.features[1]._mean.numpy(), frozen)
    assert not np.array_equal(net.features[4]._mean.numpy(), free)


def test_a_loss_that_is_not_finite_ends_a_training_without_callbacks():
    training = trainer()
    training.state.recognizer.head.weight.set_value(paddle.full([CLASSES, 16], float("nan")))
    with pytest.raises(ValueError, match="The loss is not finite in epoch 1, iteration 0:"):
        training.train()


@pytest.mark.parametrize(("is_logged", "most"), [(False, 3), (True, 6)])
def test_a_step_waits_for_the_device_three_times_and_three_more_where_it_is_logged(
    monkeypatch, tmp_path, is_logged, most
):
    """For the head's labels, the losses and the sum of the gradients; for a log row the
    backbone's gradient norm, the last embeddings and the norms of the weights. Fewer is better, more is refused."""
    waits, depth = [], [0]

    def counted(original):
        def wait(tensor, *rest):
            depth[0] += 1
            try:
                if depth[0] == 1:
                    waits.append(tensor.shape)
                return original(tensor, *rest)
            finally:
                depth[0] -= 1

        return wait

    class Count(Callback):
        def __init__(self):
            self.per_step = []

        def on_train_begin(self, state):
            waits.clear()

        def on_step(self, state):
            self.per_step.append(len(waits))

        def on_batch(self, state):
            waits.clear()  # a log row comes after this, so the next step has its waits

    for name in ("numpy", "item", "tolist"):
        monkeypatch.setattr(paddle.Tensor, name, counted(getattr(paddle.Tensor, name)))
    training = trainer(epochs=1)
    count = Count()
    if not is_logged:
        monkeypatch.setattr(training, "_log", lambda *row: None)
    training.train([Health(training.state, 2, 2, str, tmp_path), count])
    assert 0 < min(count.per_step) <= max(count.per_step[1:]) <= most
