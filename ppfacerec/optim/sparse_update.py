"""Optimizer steps that move only the rows of a weight that were sampled."""

from collections.abc import Iterator
from contextlib import contextmanager

import paddle

from ppfacerec.heads.sampling import ActiveRows
from ppfacerec.optim.state import state_of


class SparseUpdate:
    """Lends the optimizer the sampled rows of its own state for each step.

    The optimizer trains ``active.parameter``, in whose rows other classes stand at every step. What it keeps a number
    of (momentum, second moment) is kept here for all rows of the weight, and exchanged with the rows of the step.
    Works with any optimizer whose state has the parameter's shape; scalars such as Adam's powers of beta stay in it.
    """

    def __init__(self, active: ActiveRows, optimizer: paddle.optimizer.Optimizer) -> None:
        self.active, self._optimizer = active, optimizer
        self.slots: dict[str, paddle.Tensor] = {}  # "velocity_0" -> as the weight

    @contextmanager
    def rows_of_step(self) -> Iterator[None]:
        """Inside, the optimizer has the state of the active rows; afterwards weight and state have the new rows."""
        rows = self.active.rows
        count = rows.shape[0]
        with paddle.no_grad():
            for name, tensor in self._of_optimizer().items():
                if name in self.slots and count:
                    tensor[:count].copy_(paddle.gather(self.slots[name], rows), False)
        yield
        with paddle.no_grad():
            for name, tensor in self._of_optimizer().items():
                if name not in self.slots:  # the first step makes them
                    self.slots[name] = paddle.zeros(self.active.weight.shape, tensor.dtype)
                if count:
                    paddle.scatter_(self.slots[name], rows, tensor[:count])
        self.active.store()

    def _of_optimizer(self) -> dict[str, paddle.Tensor]:
        """The optimizer's own tensors that have a number for each of the parameter's; names without the parameter's."""
        parameter = self.active.parameter
        start = f"{parameter.name}_"
        return {
            name[len(start) :]: tensor
            for name, tensor in state_of(self._optimizer).items()
            if name.startswith(start) and tensor.shape == parameter.shape
        }
