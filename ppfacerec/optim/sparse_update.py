"""Optimizer steps that update only the sampled rows of a weight."""

from collections.abc import Iterator
from contextlib import contextmanager

import paddle

from ppfacerec.heads.sampling import ActiveRows
from ppfacerec.optim.state import state_of


class SparseUpdate:
    """Exchange of the optimizer state of the sampled rows, before and after each step.

    The optimizer trains ``active.parameter``, whose rows hold different classes at every step. Its state per element
    (momentum, second moment) is stored here for all rows of the weight and exchanged with the rows of the step. Works
    with any optimizer whose state has the parameter's shape; scalars such as Adam's powers of beta stay in it.
    """

    def __init__(self, active: ActiveRows, optimizer: paddle.optimizer.Optimizer) -> None:
        self.active, self._optimizer = active, optimizer
        self.slots: dict[str, paddle.Tensor] = {}  # "velocity_0" -> tensor of the weight's shape

    @contextmanager
    def rows_of_step(self) -> Iterator[None]:
        """Give the optimizer the state of the active rows; on exit, write its state and the weight's rows back."""
        rows = self.active.rows
        count = rows.shape[0]
        with paddle.no_grad():
            for name, tensor in self._of_optimizer().items():
                if name in self.slots and count:
                    tensor[:count].copy_(paddle.gather(self.slots[name], rows), False)
        yield
        with paddle.no_grad():
            for name, tensor in self._of_optimizer().items():
                if name not in self.slots:  # created in the first step
                    self.slots[name] = paddle.zeros(self.active.weight.shape, tensor.dtype)
                if count:
                    paddle.scatter_(self.slots[name], rows, tensor[:count])
        self.active.store()

    def _of_optimizer(self) -> dict[str, paddle.Tensor]:
        """Return the optimizer's tensors of the parameter's shape, by their names without the parameter's."""
        parameter = self.active.parameter
        start = f"{parameter.name}_"
        return {
            name[len(start) :]: tensor
            for name, tensor in state_of(self._optimizer).items()
            if name.startswith(start) and tensor.shape == parameter.shape
        }
