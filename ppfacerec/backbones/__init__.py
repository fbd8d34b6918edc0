"""Backbones: images [N, 3, 112, 112] -> embedding [N, embedding_size]. Each has an int attribute ``embedding_size``."""

from ppfacerec.backbones.ir import IR18, IR34, IR50, IR101
from ppfacerec.backbones.iresnet import IResNet18, IResNet34, IResNet50, IResNet100, IResNet200
from ppfacerec.backbones.mobilefacenet import MobileFaceNet
from ppfacerec.backbones.mobilefacenet_insight import MobileFaceNetInsight, MobileFaceNetInsightLarge
from ppfacerec.backbones.resnet import ResNet50
from ppfacerec.core.registry import Registry

BACKBONES = Registry(
    "backbone", MobileFaceNet, MobileFaceNetInsight, MobileFaceNetInsightLarge, ResNet50,
    IResNet18, IResNet34, IResNet50, IResNet100, IResNet200, IR18, IR34, IR50, IR101,
    spellings={"num_features": "embedding_size", "class_num": "embedding_size"},  # of insightface and PaddleClas
)  # fmt: skip
