"""The engine builds the components of a config and runs them."""

from ppfacerec.engine.agreement import find_config_beside
from ppfacerec.engine.engine import Engine
from ppfacerec.training.trainer import TrainingStopped

__all__ = ["Engine", "TrainingStopped", "find_config_beside"]
