"""A trained backbone out to where it is used: Paddle Inference and ONNX, compared with eager before it counts."""

from ppfacerec.export.exporter import EXPORT_FORMATS, ExportFormat, export_model

__all__ = ["EXPORT_FORMATS", "ExportFormat", "export_model"]
