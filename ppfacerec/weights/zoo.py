"""The zoo: published weights that this toolkit reads, their publishers, and their expected input."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from ppfacerec.core.log import table

_FILES = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/foundation_models/"


class Publisher(NamedTuple):
    """A publisher of weights: its evaluation sets, and its terms as far as they are stated.

    `page` is where the weights are downloaded by hand, `colors` the channel order of the networks' input.
    """

    name: str
    licence: str
    sets: tuple[str, ...] = ("LFW", "CFP-FP", "AgeDB-30")
    page: str | None = None
    colors: Literal["RGB", "BGR"] = "RGB"


_PADDLECLAS = Publisher("PaddleClas", "code Apache-2.0; no terms stated for the weights")
_INSIGHTFACE = Publisher(
    "insightface arcface_torch", "non-commercial research only (insightface)", ("IJB-C 1e-4", "IJB-C 1e-5"),
    "https://github.com/deepinsight/insightface/tree/master/recognition/arcface_torch#model-zoo",
)  # fmt: skip
_ADAFACE = Publisher(
    "AdaFace", "code MIT; no terms stated for the weights", colors="BGR",
    page="https://github.com/mk-minchul/AdaFace#pretrained-models",
)  # fmt: skip


@dataclass(frozen=True)
class ZooModel:
    """Published weights.

    Attributes:
        name: a value of ``Global.pretrained_model``.
        accuracies: in percent on the publisher's sets, as published; not measured by us.
        url: direct https address, or None if there is only a page to download from by hand.
        sha256: checksum of the file, if known.
    """

    name: str
    publisher: Publisher
    backbone: str
    training_data: str
    accuracies: tuple[float, ...]
    embedding_size: int = 512
    url: str | None = None
    sha256: str | None = None


# fmt: off
ZOO = {
    model.name: model
    for model in (
        ZooModel("paddleclas-mobilefacenet", _PADDLECLAS, "MobileFaceNet", "MS1M_v3", (99.58, 96.71, 96.28), 128,
                 _FILES + "mobilefacenet.pdparams"),
        ZooModel("paddleclas-resnet50", _PADDLECLAS, "ResNet50", "MS1M_v3", (99.77, 98.56, 98.12),
                 url=_FILES + "resnet50_face.pdparams"),
        ZooModel("insightface-mbf-ms1mv3", _INSIGHTFACE, "MobileFaceNetInsight", "MS1MV3", (94.23, 91.33)),
        ZooModel("insightface-r50-ms1mv3", _INSIGHTFACE, "IResNet50", "MS1MV3", (96.37, 94.47)),
        ZooModel("insightface-r100-ms1mv3", _INSIGHTFACE, "IResNet100", "MS1MV3", (96.85, 95.02)),
        ZooModel("insightface-mbf-glint360k", _INSIGHTFACE, "MobileFaceNetInsight", "Glint360K", (95.04, 92.62)),
        ZooModel("insightface-r50-glint360k", _INSIGHTFACE, "IResNet50", "Glint360K", (97.16, 95.81)),
        ZooModel("insightface-r100-glint360k", _INSIGHTFACE, "IResNet100", "Glint360K", (97.55, 96.38)),
        ZooModel("adaface-ir18-casia", _ADAFACE, "IR18", "CASIA-WebFace", (99.13, 92.59, 92.72)),
        ZooModel("adaface-ir18-webface4m", _ADAFACE, "IR18", "WebFace4M", (99.53, 97.26, 96.47)),
        ZooModel("adaface-ir50-ms1mv2", _ADAFACE, "IR50", "MS1MV2", (99.82, 97.86, 97.85)),
        ZooModel("adaface-ir50-webface4m", _ADAFACE, "IR50", "WebFace4M", (99.78, 98.97, 97.78)),
        ZooModel("adaface-ir101-ms1mv2", _ADAFACE, "IR101", "MS1MV2", (99.82, 98.49, 98.05)),
        ZooModel("adaface-ir101-ms1mv3", _ADAFACE, "IR101", "MS1MV3", (99.78, 98.91, 98.17)),
        ZooModel("adaface-ir101-webface4m", _ADAFACE, "IR101", "WebFace4M", (99.80, 99.17, 97.90)),
        ZooModel("adaface-ir101-webface12m", _ADAFACE, "IR101", "WebFace12M", (99.82, 99.26, 98.00)),
    )
}
# fmt: on


def zoo_table() -> str:
    """Return a table of all models as text."""
    rows = [
        [
            model.name, f"{model.backbone}, {model.embedding_size}-d", model.training_data, model.publisher.colors,
            ", ".join(f"{name} {value:.2f}" for name, value in zip(model.publisher.sets, model.accuracies)),
        ]
        for model in ZOO.values()
    ]  # fmt: skip
    header = ["name", "network", "trained on", "colours", "published accuracy, %"]
    lines = [f"  {who.name}: {who.licence}. {who.page or ''}" for who in (_PADDLECLAS, _INSIGHTFACE, _ADAFACE)]
    files = [f"  {m.name}: {m.url} (SHA-256 {m.sha256 or 'not published'})" for m in ZOO.values() if m.url]
    return "\n".join(
        [
            table(header, rows),
            "\nAll take aligned faces of 112 x 112, (x / 255 - 0.5) / 0.5. Publishers of weights and figures, terms:",
            *lines,
            "\nDownloaded by name:",
            *files,
            "\nThe others are downloaded by hand from their page; Global.pretrained_model takes the file unchanged.",
        ]
    )
