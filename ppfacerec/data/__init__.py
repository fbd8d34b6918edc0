"""Data sets, samplers and transforms by the names that the YAML gives them."""

from __future__ import annotations

from ppfacerec.data.datasets import ImageNetDataset
from ppfacerec.data.eval_datasets import FaceEvalDataset, FiveFaceEvalDataset, LFWEvalDataset
from ppfacerec.data.sampler import DistributedBatchSampler
from ppfacerec.data.transforms import TRANSFORMS
from ppfacerec.registry import Registry

TRAIN_DATASETS = Registry("training data set", ImageNetDataset)
EVAL_DATASETS = Registry("evaluation data set", FiveFaceEvalDataset, FaceEvalDataset, LFWEvalDataset)
SAMPLERS = Registry("sampler", DistributedBatchSampler)

__all__ = ["EVAL_DATASETS", "SAMPLERS", "TRAIN_DATASETS", "TRANSFORMS"]
