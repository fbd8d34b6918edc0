"""Model info (preprocessing, embedding size, origin) from a config."""

from ppfacerec.config.schema import Config
from ppfacerec.core.registry import thaw
from ppfacerec.data.datasets.train_datasets import source_of
from ppfacerec.data.transforms.basic import NormalizeImage
from ppfacerec.weights.info import ModelInfo


def info_of_config(config: Config, embedding_size: int) -> ModelInfo:
    """Return the model info of a config, with the transforms of the evaluation, else those of the training."""
    section = config.DataLoader.Eval or config.DataLoader.Train
    ops = {spec.name: spec.kwargs for spec in (section.transform_ops if section else ())}
    normalize = NormalizeImage(**ops.get("NormalizeImage", {}))
    train = config.DataLoader.Train
    return ModelInfo(
        backbone={"name": config.Arch.Backbone.name, **thaw(config.Arch.Backbone.kwargs)},
        embedding_size=embedding_size,
        colors="RGB" if ops.get("DecodeImage", {}).get("to_rgb", True) else "BGR",
        scale=normalize.scale,
        mean=tuple(normalize.mean),
        std=tuple(normalize.std),
        flip_test=config.Global.flip_test,
        feature_normalize=config.Global.feature_normalize,
        training_data=source_of(train.dataset) if train else None,
        config=config.to_tree(),
    )
