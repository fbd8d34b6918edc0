"""Losses by the name that the YAML gives them."""

from ppfacerec.losses.cross_entropy import CELoss, WeightedSum
from ppfacerec.registry import Registry

LOSSES = Registry("loss", CELoss)

__all__ = ["LOSSES", "CELoss", "WeightedSum"]
