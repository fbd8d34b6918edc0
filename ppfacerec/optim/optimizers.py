"""Paddle's optimizers over parameter groups with and without weight decay."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import paddle
from paddle import nn

from ppfacerec.core.ranges import require_ranges
from ppfacerec.optim.clip import ClipByGlobalNorm

Groups = Sequence[Mapping[str, Any]]


def parameter_groups(
    layers: Sequence[nn.Layer],
    weight_decay: float,
    one_dim_param_no_weight_decay: bool,
    no_weight_decay_name: str | None = None,
) -> list[dict[str, Any]]:
    """Split the trainable parameters into one group with weight decay and one without.

    Paddle's ``parameters()`` includes batch-norm statistics; tensors that are not trained are left out.

    Args:
        layers: layers to train.
        weight_decay: weight decay of the decaying group.
        one_dim_param_no_weight_decay: 1-D parameters (biases, batch-norm weights, PReLU slopes) do not decay.
        no_weight_decay_name: space-separated words; nor do parameters with one in their name (``backbone.conv1``).

    Raises:
        ValueError: a word that occurs in no parameter name.
    """
    decaying: list[paddle.Tensor] = []
    others: list[paddle.Tensor] = []
    words = (no_weight_decay_name or "").split()
    named = [(n, p) for layer in layers for n, p in layer.named_parameters() if not p.stop_gradient]
    for word in words:
        if not any(word in name for name, _ in named):
            raise ValueError(f"no_weight_decay_name: no parameter name has '{word}' in it; one is {named[0][0]}.")
    for name, parameter in named:
        still = (one_dim_param_no_weight_decay and parameter.ndim <= 1) or any(word in name for word in words)
        (others if still else decaying).append(parameter)
    groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


# The learning rate until the trainer sets the schedule's: 0, so that no step trains silently at a wrong rate.
_UNSET = 0.0


def AdamW(
    groups: Groups,
    clip_norm: float | None = None,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
) -> paddle.optimizer.Optimizer:
    """Adam with decoupled weight decay; Loshchilov and Hutter (arXiv:1711.05101), algorithm 2.

    Args:
        groups: from ``parameter_groups``; they carry the weight decay.
        clip_norm: global norm to which the gradients are clipped, or None (PaddleClas clips each tensor separately).
        weight_decay: decay coefficient, which the engine passes to ``parameter_groups``.
    """
    require_ranges(clip_norm=clip_norm, beta1=beta1, beta2=beta2, epsilon=epsilon, weight_decay=weight_decay)
    # Paddle's AdamW accepts weight decay per group only by apply_decay_param_fun or `parameters` dicts, which differ
    # between 2.6 and 3.x; a set of names works in both.
    decaying = {p.name for group in groups if group["weight_decay"] for p in group["params"]}
    return paddle.optimizer.AdamW(
        _UNSET,
        beta1=beta1,
        beta2=beta2,
        epsilon=epsilon,
        parameters=[p for group in groups for p in group["params"]],
        weight_decay=weight_decay,
        apply_decay_param_fun=lambda name: name in decaying,
        grad_clip=ClipByGlobalNorm(clip_norm) if clip_norm else None,
        multi_precision=True,
    )


def Adam(
    groups: Groups,
    clip_norm: float | None = None,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> paddle.optimizer.Optimizer:
    """Adam (arXiv:1412.6980), algorithm 1, with L2 weight decay added to the gradient."""
    return _with_l2(paddle.optimizer.Adam, groups, clip_norm, weight_decay, beta1=beta1, beta2=beta2, epsilon=epsilon)


def Momentum(
    groups: Groups,
    clip_norm: float | None = None,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    use_nesterov: bool = False,
) -> paddle.optimizer.Optimizer:
    """SGD with momentum, v = mu v + g, and L2 weight decay added to the gradient; used by insightface."""
    arguments = {"momentum": momentum, "use_nesterov": use_nesterov}
    return _with_l2(paddle.optimizer.Momentum, groups, clip_norm, weight_decay, **arguments)


def SGD(groups: Groups, clip_norm: float | None = None, weight_decay: float = 0.0) -> paddle.optimizer.Optimizer:
    """Plain gradient descent with L2 weight decay added to the gradient."""
    return _with_l2(paddle.optimizer.SGD, groups, clip_norm, weight_decay)


def _with_l2(
    build: Callable[..., paddle.optimizer.Optimizer], groups: Groups, clip_norm: float | None, weight_decay: float,
    **arguments: Any,
) -> paddle.optimizer.Optimizer:  # fmt: skip
    """Build an optimizer with an L2 regularizer per parameter, which Paddle adds to the gradient after clipping."""
    require_ranges(clip_norm=clip_norm, weight_decay=weight_decay, **arguments)
    for group in groups:
        for parameter in group["params"]:
            decay = group["weight_decay"]
            parameter.regularizer = paddle.regularizer.L2Decay(decay) if decay else None
    parameters = [p for group in groups for p in group["params"]]
    clip = ClipByGlobalNorm(clip_norm) if clip_norm else None
    return build(_UNSET, parameters=parameters, grad_clip=clip, multi_precision=True, **arguments)
