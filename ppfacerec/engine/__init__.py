"""The engine: config to parts to run."""

from ppfacerec.engine.engine import Engine
from ppfacerec.training.trainer import TrainingStopped

__all__ = ["Engine", "TrainingStopped"]
