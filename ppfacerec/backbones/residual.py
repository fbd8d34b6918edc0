"""What the residual networks for faces, IResNet and IR, share: sizes, arguments, and the run through their blocks."""

from collections.abc import Iterable

from paddle import Tensor, nn

from ppfacerec.backbones.checks import positive_int
from ppfacerec.backbones.recompute import forward_and_forget

STAGE_CHANNELS = (64, 128, 256, 512)
FINAL_AREA = 7 * 7  # four stages of stride 2 leave 7x7 of a 112x112 face


def conv(in_channels: int, out_channels: int, kernel: int, stride: int, deviation: float) -> nn.Conv2D:
    """A convolution without bias, weights drawn from N(0, deviation^2)."""
    weight = nn.initializer.Normal(0.0, deviation)
    return nn.Conv2D(
        in_channels, out_channels, kernel, stride, padding=kernel // 2, weight_attr=weight, bias_attr=False
    )


class ResidualNet(nn.Layer):
    """Base of the families; a depth only names its number of blocks in each of the four stages.

    Args:
        embedding_size: length of the embedding.
        dropout: probability that an input of the fully connected layer is dropped in training, in [0, 1).
        recompute: keep only the blocks' inputs for the backward and compute the rest again: the same gradients with
            less memory, for about a third more time (docs/distributed.md has figures).

    Shapes:
        images [N, 3, 112, 112] float32 -> embedding [N, embedding_size], not normalised.

    Raises:
        ValueError: `embedding_size` is no positive int, `dropout` is outside [0, 1), or the images have another shape.
    """

    depths: tuple[int, int, int, int]

    def __init__(self, embedding_size: int, dropout: float, recompute: bool) -> None:
        super().__init__()
        self.embedding_size = positive_int(type(self).__name__, "embedding_size", embedding_size)
        if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
            raise ValueError(f"{type(self).__name__}: dropout must be a number in [0, 1), found {dropout!r}.")
        self.recompute = recompute

    def through(self, blocks: Iterable[nn.Layer], x: Tensor) -> Tensor:
        for block in blocks:
            x = forward_and_forget(block, x) if self.recompute else block(x)
        return x
