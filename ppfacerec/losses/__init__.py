"""Registry of losses, by their names in the config."""

from ppfacerec.core.registry import Registry
from ppfacerec.losses.cross_entropy import CELoss, WeightedSum

LOSSES = Registry("loss", CELoss)

__all__ = ["LOSSES", "CELoss", "WeightedSum"]
