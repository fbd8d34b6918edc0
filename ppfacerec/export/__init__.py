"""Export of a trained backbone to Paddle Inference and ONNX, compared with eager mode before it is written."""

from ppfacerec.export.exporter import export_model

__all__ = ["export_model"]
