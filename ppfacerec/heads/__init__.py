"""Registry of heads, by their names in the config."""

from ppfacerec.core.registry import Registry
from ppfacerec.heads.adaptive_margins import AdaMargin, CurricularMargin, MagMargin
from ppfacerec.heads.fixed_margins import ArcMargin, CombinedMargin, CosMargin, SphereMargin
from ppfacerec.heads.margin_head import MarginHead
from ppfacerec.heads.options import HeadOptions, with_head_options
from ppfacerec.heads.scores import MarginScores
from ppfacerec.heads.traits import ClassRows, HeadTraits, traits_of

HEADS = Registry("head", ArcMargin, CosMargin, SphereMargin, CombinedMargin, AdaMargin, MagMargin, CurricularMargin)

__all__ = [
    "HEADS", "AdaMargin", "ArcMargin", "ClassRows", "CombinedMargin", "CosMargin", "CurricularMargin", "HeadOptions",
    "HeadTraits", "MagMargin", "MarginHead", "MarginScores", "SphereMargin", "traits_of", "with_head_options",
]  # fmt: skip
