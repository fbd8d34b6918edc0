"""Code shared by the residual networks for faces, IResNet and IR."""

from collections.abc import Iterable

from paddle import Tensor, nn

from ppfacerec.backbones.recompute import forward_and_forget
from ppfacerec.core.ranges import require_count

STAGE_CHANNELS = (64, 128, 256, 512)
FINAL_AREA = 7 * 7  # four stages of stride 2 reduce a 112x112 face to 7x7


def conv(in_channels: int, out_channels: int, kernel: int, stride: int, deviation: float) -> nn.Conv2D:
    """A convolution without bias, weights drawn from N(0, deviation^2)."""
    weight = nn.initializer.Normal(0.0, deviation)
    return nn.Conv2D(
        in_channels, out_channels, kernel, stride, padding=kernel // 2, weight_attr=weight, bias_attr=False
    )


class ResidualNet(nn.Layer):
    """Base class of both families; a network sets only `depths`, its number of blocks in each of the four stages.

    Args:
        embedding_size: length of the embedding.
        dropout: probability that an input of the fully connected layer is dropped in training, in [0, 1).
        recompute: keep only the blocks' inputs and recompute the rest in the backward pass: the same gradients with
            less memory, for about a third more time (figures in docs/distributed.md).

    Shapes:
        images [N, 3, 112, 112] float32 -> embedding [N, embedding_size], not normalised.

    Raises:
        ValueError: `embedding_size` not a positive int, `dropout` outside [0, 1), or images of another shape.
    """

    depths: tuple[int, int, int, int]

    def __init__(self, embedding_size: int, dropout: float, recompute: bool) -> None:
        super().__init__()
        self.embedding_size = require_count(f"{type(self).__name__}.embedding_size", embedding_size)
        if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
            raise ValueError(f"{type(self).__name__}: dropout must be a number in [0, 1), found {dropout!r}.")
        self.recompute = recompute

    def through(self, blocks: Iterable[nn.Layer], x: Tensor) -> Tensor:
        for block in blocks:
            x = forward_and_forget(block, x) if self.recompute else block(x)
        return x
