"""Face-recognition training and evaluation for PaddlePaddle.

Importing this package starts nothing and does not import paddle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ppfacerec.apply.face_model import FaceModel


def load(name: Any, device: Any = "auto") -> FaceModel:
    """Load a model that embeds and compares aligned faces; see ``ppfacerec.apply.face_model.load``."""
    from ppfacerec import environment, log

    log.setup_library_logging()
    environment.check_environment()
    from ppfacerec.apply import face_model

    return face_model.load(name, device)
