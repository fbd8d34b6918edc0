"""The engine: config to parts to run."""

from ppfacerec.engine.engine import Engine
from ppfacerec.engine.trainer import TrainingStopped

__all__ = ["Engine", "TrainingStopped"]
