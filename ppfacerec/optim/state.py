"""Complete state of an optimizer, also between loading and the first step."""

from typing import Any

import paddle


def state_of(optimizer: paddle.optimizer.Optimizer) -> dict[str, Any]:
    """Return ``optimizer.state_dict()`` including loaded state that no step has used yet.

    Paddle 2.6 omits that until the first step: a run saved before it would lose the state.
    """
    return {**getattr(optimizer, "_accumulators_holder", {}), **optimizer.state_dict()}
