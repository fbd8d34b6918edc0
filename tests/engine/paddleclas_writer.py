"""A training in plain Paddle that is saved as PaddleClas's engine does, one step before its end.

A program of its own, so that Paddle's automatic names start at 0 as in a run of PaddleClas:
``python paddleclas_writer.py PREFIX OPTIMIZER [as_list] [ema] [without_table] [go_on]``. It writes PREFIX.pdparams, .pdopt and
.pdstates, and ``after.npz``: the weights after one more step. Nothing of ppfacerec is used.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

BATCH, CLASSES, MARGIN, SCALE = 8, 5, 0.2, 16.0


class Backbone(nn.Layer):
    """tests/tiny_plugin.py's TinyNet without dropout."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2D(3, 8, 7, stride=8), nn.BatchNorm2D(8), nn.PReLU(8), nn.Conv2D(8, 16, 3, stride=3),
            nn.BatchNorm2D(16), nn.Dropout(0.0),
        )  # fmt: skip
        self.fc = nn.Linear(16 * 4 * 4, 16)
        # As in PaddleClas's MobileFaceNet, weights are made anew afterwards: the automatic names tell no layer.
        for norm in (self.features[4], self.features[1]):
            norm.weight = paddle.create_parameter([norm.weight.shape[0]], "float32",
                                                  default_initializer=nn.initializer.Constant(1.0))  # fmt: skip

    def forward(self, x):
        return self.fc(self.features(x).flatten(1))


class ArcMargin(nn.Layer):
    def __init__(self):
        super().__init__()
        self.weight = self.create_parameter([16, CLASSES], default_initializer=nn.initializer.XavierNormal())

    def forward(self, embedding, labels):
        cosine = F.normalize(embedding) @ F.normalize(self.weight, axis=0)
        angle = paddle.acos(paddle.clip(cosine, -1 + 1e-6, 1 - 1e-6))
        return SCALE * paddle.where(F.one_hot(labels, CLASSES) > 0, paddle.cos(angle + MARGIN), cosine)


class RecModel(nn.Layer):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = Backbone(), ArcMargin()


def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng([3, step])
    labels = generator.integers(0, CLASSES, BATCH)
    return generator.standard_normal((BATCH, 3, 112, 112)).astype("float32"), labels


def main(prefix: Path, name: str, options: list[str]) -> None:
    paddle.seed(4)
    model = RecModel()
    schedule = paddle.optimizer.lr.LinearWarmup(paddle.optimizer.lr.CosineAnnealingDecay(0.01, 100), 1, 0.0, 0.01)
    flat = {p.name for p in model.parameters() if p.ndim <= 1}
    if name == "AdamW":
        optimizer = paddle.optimizer.AdamW(schedule, parameters=model.parameters(), weight_decay=0.05,
                                           apply_decay_param_fun=lambda n: n not in flat)  # fmt: skip
    else:
        optimizer = paddle.optimizer.Momentum(schedule, parameters=model.parameters(), momentum=0.9,
                                              weight_decay=paddle.regularizer.L2Decay(5e-4))  # fmt: skip

    def step(number: int) -> None:
        images, labels = map(paddle.to_tensor, batch(number))
        F.cross_entropy(model.head(model.backbone(images), labels), labels).backward()
        optimizer.step()
        optimizer.clear_grad()

    if "go_on" in options:  # from what is there, as PaddleClas's init_model does
        model.set_state_dict(paddle.load(f"{prefix}.pdparams"))
        optimizer.set_state_dict(paddle.load(f"{prefix}.pdopt")[0])
        assert paddle.load(f"{prefix}.pdstates")["epoch"] == 3
        step(3)
        weights = {k: v.numpy() for k, v in model.state_dict().items()}
        np.savez(prefix.parent / "went_on.npz", **weights, learning_rate=optimizer.get_lr())
        return
    for number in range(3):
        step(number)
        schedule.step()
    weights, state = model.state_dict(), optimizer.state_dict()
    if "without_table" in options:
        weights = {k: paddle.to_tensor(v.numpy()) for k, v in weights.items()}
    if "ema" in options:
        paddle.save(weights, f"{prefix}.pdema")
        weights = {k: v * 0.5 for k, v in weights.items()}
    paddle.save(weights, f"{prefix}.pdparams")
    paddle.save([state] if "as_list" in options else state, f"{prefix}.pdopt")
    paddle.save({"metric": 0.75, "epoch": 3}, f"{prefix}.pdstates")
    step(3)
    after = {k: v.numpy() for k, v in model.state_dict().items()}
    np.savez(prefix.parent / "after.npz", **after, learning_rate=optimizer.get_lr())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
