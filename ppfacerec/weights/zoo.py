"""The zoo: published weights that this toolkit reads, their publishers, and the input that they expect."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ppfacerec.core.log import table

PADDLE_FILES = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/foundation_models/"
INSIGHTFACE_PAGE = "https://github.com/deepinsight/insightface/tree/master/recognition/arcface_torch#model-zoo"
ADAFACE_PAGE = "https://github.com/mk-minchul/AdaFace#pretrained-models"
_SMALL_SETS = ("LFW", "CFP-FP", "AgeDB-30")
_INSIGHTFACE_LICENCE = "non-commercial research only (insightface)"
_ADAFACE_LICENCE = "code MIT; no terms stated for the weights"
_PADDLE_LICENCE = "code Apache-2.0; no terms stated for the weights"


@dataclass(frozen=True)
class ZooModel:
    """Published weights.

    Attributes:
        name: what ``Global.pretrained_model`` takes.
        backbone: the network's name here.
        training_data: what they were trained on.
        published: accuracy in percent by set, as their authors give it; not measured by us.
        publisher: of the weights and figures.
        colors: order of the colour channels that the network takes.
        licence: terms, as far as they are stated.
        url: direct https address, or None where there is only a page to download from by hand.
        page: that page.
        sha256: checksum of the file, where known.
    """

    name: str
    backbone: str
    training_data: str
    published: Mapping[str, float]
    publisher: str
    licence: str
    colors: Literal["RGB", "BGR"] = "RGB"
    embedding_size: int = 512
    url: str | None = None
    page: str | None = None
    sha256: str | None = None
    arguments: Mapping[str, object] = field(default_factory=dict)


def _paddleclas(name: str, file: str, backbone: str, size: int, *published: float) -> ZooModel:
    return ZooModel(
        name, backbone, "MS1M_v3", dict(zip(_SMALL_SETS, published)), "PaddleClas", _PADDLE_LICENCE,
        embedding_size=size, url=PADDLE_FILES + file,
    )  # fmt: skip


def _insightface(name: str, backbone: str, data: str, ijbc4: float, ijbc5: float) -> ZooModel:
    return ZooModel(
        name, backbone, data, {"IJB-C 1e-4": ijbc4, "IJB-C 1e-5": ijbc5}, "insightface arcface_torch",
        _INSIGHTFACE_LICENCE, page=INSIGHTFACE_PAGE,
    )  # fmt: skip


def _adaface(name: str, backbone: str, data: str, *published: float) -> ZooModel:
    return ZooModel(
        name, backbone, data, dict(zip(_SMALL_SETS, published)), "AdaFace", _ADAFACE_LICENCE,
        colors="BGR", page=ADAFACE_PAGE,
    )  # fmt: skip


ZOO = {
    model.name: model
    for model in (
        _paddleclas("paddleclas-mobilefacenet", "mobilefacenet.pdparams", "MobileFaceNet", 128, 99.58, 96.71, 96.28),
        _paddleclas("paddleclas-resnet50", "resnet50_face.pdparams", "ResNet50", 512, 99.77, 98.56, 98.12),
        _insightface("insightface-mbf-ms1mv3", "MobileFaceNetInsight", "MS1MV3", 94.23, 91.33),
        _insightface("insightface-r50-ms1mv3", "IResNet50", "MS1MV3", 96.37, 94.47),
        _insightface("insightface-r100-ms1mv3", "IResNet100", "MS1MV3", 96.85, 95.02),
        _insightface("insightface-mbf-glint360k", "MobileFaceNetInsight", "Glint360K", 95.04, 92.62),
        _insightface("insightface-r50-glint360k", "IResNet50", "Glint360K", 97.16, 95.81),
        _insightface("insightface-r100-glint360k", "IResNet100", "Glint360K", 97.55, 96.38),
        _adaface("adaface-ir18-casia", "IR18", "CASIA-WebFace", 99.13, 92.59, 92.72),
        _adaface("adaface-ir18-webface4m", "IR18", "WebFace4M", 99.53, 97.26, 96.47),
        _adaface("adaface-ir50-ms1mv2", "IR50", "MS1MV2", 99.82, 97.86, 97.85),
        _adaface("adaface-ir50-webface4m", "IR50", "WebFace4M", 99.78, 98.97, 97.78),
        _adaface("adaface-ir101-ms1mv2", "IR101", "MS1MV2", 99.82, 98.49, 98.05),
        _adaface("adaface-ir101-ms1mv3", "IR101", "MS1MV3", 99.78, 98.91, 98.17),
        _adaface("adaface-ir101-webface4m", "IR101", "WebFace4M", 99.80, 99.17, 97.90),
        _adaface("adaface-ir101-webface12m", "IR101", "WebFace12M", 99.82, 99.26, 98.00),
    )
}


def zoo_table() -> str:
    """All models, for reading."""
    rows = [
        [
            model.name, f"{model.backbone}, {model.embedding_size}-d", model.training_data, model.colors,
            ", ".join(f"{name} {value:.2f}" for name, value in model.published.items()),
        ]
        for model in ZOO.values()
    ]  # fmt: skip
    header = ["name", "network", "trained on", "colours", "published accuracy, %"]
    publishers = {model.publisher: model for model in ZOO.values()}
    lines = [f"  {name}: {model.licence}. {model.page or ''}" for name, model in publishers.items()]
    files = [
        f"  {model.name}: {model.url} (SHA-256 {model.sha256 or 'not published'})"
        for model in ZOO.values()
        if model.url
    ]
    return "\n".join(
        [
            table(header, rows),
            "\nAll take aligned faces of 112 x 112, (x / 255 - 0.5) / 0.5. Publishers of weights and figures, terms:",
            *lines,
            "\nDownloaded by name:",
            *files,
            "\nThe others are downloaded by hand from their page; Global.pretrained_model takes the file as it is.",
        ]
    )
