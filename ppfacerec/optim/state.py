"""An optimizer's state as it is, also between loading and the first step."""

from typing import Any

import paddle


def state_of(optimizer: paddle.optimizer.Optimizer) -> dict[str, Any]:
    """``optimizer.state_dict()`` with what was loaded and no step has used yet.

    Paddle 2.6 leaves that out until the first step: a run saved before it would lose the state.
    """
    return {**getattr(optimizer, "_accumulators_holder", {}), **optimizer.state_dict()}
