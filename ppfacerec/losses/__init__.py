"""Losses by the name that the YAML gives them."""

from ppfacerec.core.registry import Registry
from ppfacerec.losses.cross_entropy import CELoss, WeightedSum

LOSSES = Registry("loss", CELoss)

__all__ = ["LOSSES", "CELoss", "WeightedSum"]
