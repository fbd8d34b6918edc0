"""Registries of data sets, samplers and transforms."""

from ppfacerec.core.registry import Registry
from ppfacerec.data.datasets.train_datasets import TRAIN_DATASETS
from ppfacerec.data.loading.sampler import DistributedBatchSampler
from ppfacerec.data.pairs.eval_datasets import FaceEvalDataset, FiveFaceEvalDataset, LFWEvalDataset
from ppfacerec.data.transforms.basic import TRANSFORMS

EVAL_DATASETS = Registry("evaluation data set", FiveFaceEvalDataset, FaceEvalDataset, LFWEvalDataset)
SAMPLERS = Registry("sampler", DistributedBatchSampler)

__all__ = ["EVAL_DATASETS", "SAMPLERS", "TRAIN_DATASETS", "TRANSFORMS"]
