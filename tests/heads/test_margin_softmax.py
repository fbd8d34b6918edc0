"""Laws of the chunked head: equal to float64 and to the dense logits, at any chunk size, for every margin."""

from __future__ import annotations

import tracemalloc

import numpy as np
import paddle
import plain_heads as plain
import pytest

from ppfacerec.heads import HEADS, ArcMargin, margin_softmax
from ppfacerec.losses import CELoss, WeightedSum

D, C, B = 8, 23, 12
OPTIONS = [
    {},
    {"num_sub_centers": 3},
    {"interclass_filtering_threshold": 0.2},
    {"num_sub_centers": 2, "interclass_filtering_threshold": 0.3},
]
every_head = pytest.mark.parametrize("head", plain.HEADS, ids=lambda p: p.id)


@pytest.fixture(params=[0, 1 << 21], ids=["computed again", "kept"], autouse=True)
def logits_of_the_backward(request, monkeypatch):
    monkeypatch.setattr(margin_softmax, "_MOST_KEPT", request.param)


def batch(sub_centers=1):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((B, D)) * rng.uniform(2, 40, (B, 1))
    w = rng.standard_normal((C * sub_centers, D))
    y = rng.integers(0, C, B)
    x[0], x[1] = 3 * w[y[0] * sub_centers] + 0.1 * x[0], -w[y[1] * sub_centers] + 0.02 * x[1]  # easy, and hopeless
    return x.astype("float32"), w.astype("float32"), y


def run(head, x, w, y, dense=False):
    """Loss, and gradients of embeddings and weight."""
    head.weight.set_value(w)
    embedding, labels = paddle.to_tensor(x, stop_gradient=False), paddle.to_tensor(y)
    scores = head(embedding, labels)
    total = CELoss()(scores.dense() if dense else scores, labels) + sum(scores.penalties.values())
    total.backward()
    return total.item(), embedding.grad.numpy(), head.weight.grad.numpy()


def assert_close(ours, expected, rtol):
    for a, b in zip(ours, expected):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


@every_head
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("scale", [64.0, 200.0])  # 200: exp(z) overflows, the running maximum is needed
def test_loss_and_gradients_equal_the_plain_version(head, options, scale):
    K = options.get("num_sub_centers", 1)
    x, w, y = batch(K)
    ours = HEADS.get(head.name)(D, C, scale=scale, chunk_size=7, **head.arguments, **options)
    value, grad_x, grad_w = run(ours, x, w, y)
    x, w = x.astype("float64"), w.astype("float64")
    given = {"constant": plain.constants(x, w, y, K), "scale": scale, "sub_centers": K}
    given["threshold"] = options.get("interclass_filtering_threshold")
    assert value == pytest.approx(plain.loss(head, x, w, y, **given), rel=1e-5)
    rng = np.random.default_rng(0)
    for at, gradient, function in (
        (x, grad_x, lambda v: plain.loss(head, v, w, y, **given)),
        (w, grad_w, lambda v: plain.loss(head, x, v, y, **given)),
    ):
        for _ in range(3):
            direction = rng.standard_normal(at.shape)
            expected = plain.slope(function, at, direction, 1e-6)
            assert (gradient * direction).sum() == pytest.approx(
                expected, rel=2e-4, abs=2e-5 * float(np.abs(gradient).sum())
            )


@every_head
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_any_chunk_size_gives_the_dense_heads_loss_and_gradients(head, options):
    x, w, y = batch(options.get("num_sub_centers", 1))

    def build(**more):
        return HEADS.get(head.name)(D, C, **head.arguments, **options, **more)

    expected = run(build(), x, w, y, dense=True)
    for chunk_size in (1, 2, 7, 22, 23, 24, 1000, None):
        assert_close(run(build(chunk_size=chunk_size), x, w, y), expected, 1e-5)


@every_head
def test_zero_embedding_and_zero_centres_have_finite_loss_and_gradients(head):
    x, w, y = batch()
    x[2], w[y[2]], w[y[3]], w[(y[4] + 1) % C] = 0, 0, 0, 0
    for value in run(HEADS.get(head.name)(D, C, chunk_size=5, **head.arguments), x, w, y):
        assert np.isfinite(value).all()


@every_head
@pytest.mark.parametrize("sign", [1, -1])
def test_embeddings_on_their_centres_or_opposite_have_finite_loss_and_gradients(head, sign):
    _, w, y = batch()
    for value in run(HEADS.get(head.name)(D, C, chunk_size=5, **head.arguments), sign * w[y], w, y):
        assert np.isfinite(value).all()


@pytest.mark.parametrize("scale", [64.0, 200.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_all_cosines_at_an_end_give_the_exact_loss(sign, scale):
    """The largest and the smallest sum that there can be: exp(s cos) without looking for the maximum stays normal."""
    w = np.tile(np.eye(1, D, dtype="float32"), (C, 1))
    x, y = np.tile(sign * np.eye(1, D, dtype="float32"), (B, 1)), np.arange(B)
    value, *gradients = run(ArcMargin(D, C, margin=0.0, scale=scale, chunk_size=5), x, w, y)
    assert value == pytest.approx(np.log(C), rel=1e-4)  # the sine's floor moves the target by s 1e-6 at most
    assert all(np.isfinite(g).all() for g in gradients)


def test_single_class_has_no_negatives_and_no_loss():
    value, grad_x, grad_w = run(
        ArcMargin(D, 1), np.ones((3, D), "float32"), np.ones((1, D), "float32"), np.zeros(3, int)
    )
    assert value == 0
    assert not grad_x.any()
    assert not grad_w.any()


def test_gradient_of_a_row_is_orthogonal_to_it():
    x, w, y = batch()
    _, grad_x, grad_w = run(ArcMargin(D, C, chunk_size=5), x, w, y)
    for rows, gradient in ((x, grad_x), (w, grad_w)):
        along = (rows * gradient).sum(axis=1)
        np.testing.assert_allclose(along / np.linalg.norm(rows, axis=1), 0, atol=1e-5 * np.abs(gradient).max())


def test_lost_probability_keeps_its_gradient():
    """A target at probability 1 - 1e-12: float32 softmax minus one-hot would be 0."""
    w = np.eye(3, D, dtype="float32")
    head = ArcMargin(D, 3, margin=0.0, scale=28.0, chunk_size=2)
    value, _, grad_w = run(head, w[:1] + 1e-3 * np.ones((1, D), "float32"), w, np.zeros(1, int))
    assert 0 < value < 1e-10
    assert np.abs(grad_w).max() > 0


def test_no_matrix_of_batch_times_classes_is_made():
    """Peak of Paddle's and NumPy's arrays, from the shapes that are asked for."""
    shapes = []
    original = paddle.matmul

    def record(x, y, *arguments, **options):
        result = original(x, y, *arguments, **options)
        shapes.append(result.size)
        return result

    head = ArcMargin(4, 5000, chunk_size=100)
    embedding, labels = paddle.randn([64, 4]), paddle.randint(0, 5000, [64])
    embedding.stop_gradient = False
    tracemalloc.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paddle, "matmul", record)
        CELoss()(head(embedding, labels), labels).backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(shapes) > 100
    assert max(shapes) == 100 * 64
    assert peak < 4 * 64 * 5000  # bytes; the matrix would be this many


def test_the_labels_range_is_checked():
    head = ArcMargin(D, C)
    with pytest.raises(ValueError, match=r"Labels run from 0 to 23, but class_num is 23: expected 0 to 22\."):
        head(paddle.randn([2, D]), paddle.to_tensor([0, 23])).cross_entropy()


def test_a_loss_of_ones_own_gets_the_dense_logits():
    class LargestLogit(paddle.nn.Layer):
        def forward(self, logits, labels):
            assert list(logits.shape) == [2, C]
            return logits.max()

    head = ArcMargin(D, C)
    labels = paddle.to_tensor([0, 1])
    values = WeightedSum({"CELoss": (CELoss(), 1.0), "LargestLogit": (LargestLogit(), 0.5)})(
        head(paddle.randn([2, D]), labels), labels
    )
    assert values["loss"].item() == pytest.approx(values["CELoss"].item() + 0.5 * values["LargestLogit"].item())


def test_magfaces_regularizer_is_in_the_loss_and_shown():
    labels = paddle.to_tensor([0, 1])
    values = WeightedSum({"CELoss": (CELoss(), 0.5)})(
        HEADS.get("MagMargin")(D, C)(paddle.randn([2, D]), labels), labels
    )
    assert list(values) == ["CELoss", "MagFace", "loss"]
    assert values["loss"].item() == pytest.approx(0.5 * values["CELoss"].item() + values["MagFace"].item())
    assert values["MagFace"].item() == pytest.approx(
        35 * (1 / 10 + 10 / 110**2), rel=1e-5
    )  # norms below 10 count as 10


def test_running_statistics_follow_the_batches_in_training_only():
    x, w, y = batch()
    ada, curricular = HEADS.get("AdaMargin")(D, C), HEADS.get("CurricularMargin")(D, C)
    norm = np.clip(np.linalg.norm(x, axis=1), 1e-3, 100)
    mean, deviation, t = 20.0, 100.0, 0.0
    for _ in range(3):
        run(ada, x, w, y)
        run(curricular, x, w, y)
        mean, deviation = 0.01 * norm.mean() + 0.99 * mean, 0.01 * norm.std(ddof=1) + 0.99 * deviation
        t = plain.constants(x, w, y, t=t).t
    assert ada.batch_mean.item() == pytest.approx(mean, rel=1e-6)
    assert ada.batch_std.item() == pytest.approx(deviation, rel=1e-6)
    assert curricular.t.item() == pytest.approx(t, rel=1e-5)
    before = [ada.batch_mean.item(), curricular.t.item()]
    for head in (ada, curricular):
        head.eval()
        run(head, x, w, y)
    assert before == [ada.batch_mean.item(), curricular.t.item()]


def test_first_weights_depend_on_the_seed_alone():
    def weights(seed, class_num):
        paddle.seed(seed)
        return ArcMargin(D, class_num).weight.numpy()

    np.testing.assert_array_equal(weights(1, 3000), weights(1, 3000))
    assert np.abs(weights(1, 3000) - weights(2, 3000)).max() > 0.01
    assert weights(1, 3000).std() == pytest.approx(np.sqrt(2 / (D + 3000)), rel=0.02)
    assert len(np.unique(weights(1, 3000))) > 0.99 * 3000 * D  # the blocks differ
