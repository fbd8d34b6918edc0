"""Gradient checkpointing: keep a block's input instead of its activations, and recompute them in the backward pass.

Chen, Xu, Zhang, Guestrin: "Training Deep Nets with Sublinear Memory Cost", 2016 (arXiv:1604.06174).
"""

import paddle
from paddle import Tensor, nn

# Autograd only, although under `distributed`: it does not communicate.
from paddle.distributed.fleet.utils import recompute


def forward_and_forget(block: nn.Layer, x: Tensor) -> Tensor:
    """Return ``block(x)``; in training its activations are recomputed when the backward pass needs them.

    The gradients are the same, at the cost of one more forward pass. Paddle's own ``recompute`` updates the running
    statistics of batch norm in both passes, which changes the network in evaluation; here the first pass restores them.
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
