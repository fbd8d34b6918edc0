"""Heads by the name that the YAML gives them."""

from __future__ import annotations

from ppfacerec.heads.margin_head import ArcMargin
from ppfacerec.registry import Registry

HEADS = Registry("head", ArcMargin)

__all__ = ["HEADS", "ArcMargin"]
