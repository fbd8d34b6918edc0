"""Registries of optimizers and learning-rate schedules, by their names in the config."""

from ppfacerec.core.registry import Registry
from ppfacerec.optim.optimizers import SGD, Adam, AdamW, Momentum, parameter_groups
from ppfacerec.optim.schedules import (
    Constant,
    Cosine,
    Linear,
    MultiStepDecay,
    Piecewise,
    Polynomial,
    Schedule,
    Step,
)

OPTIMIZERS = Registry("optimizer", AdamW, Adam, Momentum, SGD)
# ConstLR is PaddleClas's name.
SCHEDULES = Registry(
    "schedule", Cosine, Piecewise, MultiStepDecay, Step, Polynomial, Linear, Constant, MultiStep=MultiStepDecay,
    ConstLR=Constant,
)  # fmt: skip

__all__ = ["OPTIMIZERS", "SCHEDULES", "Schedule", "parameter_groups"]
