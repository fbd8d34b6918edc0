"""Data sets, samplers and transforms by the names that the YAML gives them."""

from ppfacerec.data.eval_datasets import FaceEvalDataset, FiveFaceEvalDataset, LFWEvalDataset
from ppfacerec.data.sampler import DistributedBatchSampler
from ppfacerec.data.train_datasets import TRAIN_DATASETS
from ppfacerec.data.transforms import TRANSFORMS
from ppfacerec.registry import Registry

EVAL_DATASETS = Registry("evaluation data set", FiveFaceEvalDataset, FaceEvalDataset, LFWEvalDataset)
SAMPLERS = Registry("sampler", DistributedBatchSampler)

__all__ = ["EVAL_DATASETS", "SAMPLERS", "TRAIN_DATASETS", "TRANSFORMS"]
