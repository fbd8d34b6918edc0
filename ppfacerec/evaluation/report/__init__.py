"""The evaluation report: numbers, plots, thresholds, and the faces that fail, in one page that needs no network."""

from ppfacerec.evaluation.report.report import write_report

__all__ = ["write_report"]
