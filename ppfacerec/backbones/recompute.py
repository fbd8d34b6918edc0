"""Gradient checkpointing: keep a block's input, not its activations, and compute the block again in the backward.

Chen, Xu, Zhang, Guestrin: "Training Deep Nets with Sublinear Memory Cost", 2016 (arXiv:1604.06174).
"""

import paddle
from paddle import Tensor, nn

# An autograd tool that Paddle keeps under `distributed`; nothing is sent.
from paddle.distributed.fleet.utils import recompute


def forward_and_forget(block: nn.Layer, x: Tensor) -> Tensor:
    """Return ``block(x)``; in training its activations are computed a second time when the backward needs them.

    The gradients are the same, for one more forward of the block. Paddle's own ``recompute`` lets batch norm move its
    running statistics in both passes, which gives another network in evaluation; here the first pass leaves them alone.
    """
    if not (block.training and paddle.is_grad_enabled()):
        return block(x)
    is_first = True

    def run(x: Tensor) -> Tensor:
        nonlocal is_first
        if not is_first:
            return block(x)
        is_first = False
        statistics = [(t, t.clone()) for t in block.state_dict().values() if t.stop_gradient]
        y = block(x)
        for tensor, before in statistics:
            paddle.assign(before, tensor)
        return y

    return recompute(run, x)
