# %% [markdown]
# # A new margin
# A margin is one method: it takes the cosines of the samples to their own classes, (B,), and gives the cosines that
# training sees instead. Chunks of classes, sampling, shards and checkpoints come with the base class.

# %%
import paddle

from ppfacerec.heads import HEADS, ArcMargin, MarginHead, with_head_options
from ppfacerec.losses import CELoss


@HEADS.register
@with_head_options
class SquaredMargin(MarginHead):
    """Asks more of a face the nearer it is already: cos - m (1 + cos)^2 / 4 for the target."""

    def margin(self, cosine: paddle.Tensor, norm: paddle.Tensor) -> paddle.Tensor:
        return cosine - 0.4 * (1 + cosine) ** 2 / 4


# %% [markdown]
# In a config it is now `Arch.Head: {name: SquaredMargin, ...}`, with its module in `Global.plugins`. In Python it is a
# layer: train it, and ArcFace for comparison, on embeddings of two people that are nothing but noise around two points.

# %%
paddle.seed(0)
labels = paddle.arange(64) % 2
points = paddle.nn.functional.one_hot(labels, 8) + 0.3 * paddle.randn([64, 8])


def train(head: MarginHead) -> list[float]:
    """The loss of each of 40 steps."""
    optimizer, loss_of, losses = paddle.optimizer.Adam(0.05, parameters=head.parameters()), CELoss(), []
    for _ in range(40):
        loss = loss_of(head(points, labels), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        losses.append(float(loss))
    return losses


for head in (SquaredMargin(8, 2, scale=16.0), ArcMargin(8, 2, margin=0.2, scale=16.0)):
    losses = train(head)
    print(f"{type(head).__name__}: loss {losses[0]:.3f} -> {losses[-1]:.3f}")
    assert losses[-1] < losses[0] / 2
