"""Translation of PaddleClas configs to ours, before they are bound to the schema; see docs/paddleclas.md."""

import re
from collections.abc import Mapping
from typing import Any, Optional

from ppfacerec.config.errors import ConfigError
from ppfacerec.core.registry import thaw

Tree = dict[str, Any]

_QUOTED_QUOTIENT = re.compile(r"^\s*([\d.]+)\s*/\s*([\d.]+)\s*$")

# Keys without effect: (accepted values, None for any; why, or what to use instead).
KEYS: dict[str, tuple[Optional[tuple[Any, ...]], str]] = {
    "Global.eval_mode": (("face_recognition", "adaface", None), "evaluation is always face verification"),
    "Global.retrieval_feature_from": (("backbone", None), "the embedding is always the backbone's output"),
    "Global.re_ranking": ((False, None), "re-ranking is for retrieval, not for verification"),
    "Global.feature_binarize": ((False, None), "embeddings are compared as floats"),
    "Global.use_dali": ((False, None), "images are decoded by OpenCV"),
    "Global.to_static": ((False, None), "training runs in eager mode"),
    "Global.use_amp": ((True, None), "the AMP section itself switches AMP on"),
    "Global.print_mem_info": (None, "`ppfacerec plan` estimates memory"),
    "Global.log_ranks": (("0", 0, None), "rank 0 logs everything, other ranks only warnings"),
    "Global.start_eval_epoch": ((0, 1, None), "Global.eval_interval sets when to evaluate"),
    "Global.iter_per_epoch": ((None,), "an epoch is one pass over the data set"),
    "Global.train_mode": ((None, "default"), "there is only one training loop"),
    "Global.uniform_output_enabled": (None, "the output format is fixed"),
    "Global.use_multilabel": ((False, None), "a face has one identity"),
    "Global.distributed": (None, "the launcher sets the number of processes"),
    "Global.use_distillation": ((False, None), "distillation is not supported"),
    "Global.warmup_iter": ((0, None), "use Optimizer.lr.warmup_epoch, which may be fractional"),
    "AMP.use_promote": ((False, None), "O1 and O2 follow Paddle's own lists of operators"),
    "AMP.use_fp16_test": ((False, None), "evaluation computes in float32"),
    "Arch.infer_output_key": (("features", None), "inference always returns the embedding"),
    "Arch.infer_add_softmax": ((False, None), "inference always returns the embedding"),
    "Arch.Neck": ((None,), "the backbone's output is the embedding"),
    "Arch.Backbone.pretrained": ((False, None), "use Global.pretrained_model for weights to start from"),
    "Arch.Backbone.use_ssld": ((False, None), "use Global.pretrained_model for weights to start from"),
    "Arch.Backbone.input_size": (([112, 112], None), "the backbones take 112 x 112"),
    "Loss.Eval": (None, "evaluation computes no loss"),
    "Metric.Train": (None, "the training log shows the loss"),
    "Optimizer.multi_precision": (None, "half-precision weights always have float32 masters"),
    "Optimizer.lr.by_epoch": ((False, None), "the learning rate is computed for every step"),
    "Optimizer.lr.last_epoch": ((-1, None), "checkpoints store the schedule's position"),
    "Optimizer.lr.verbose": (None, "train.csv has the learning rate of every step"),
    "Optimizer.lr.warmup_iter": ((0, None), "use warmup_epoch, which may be fractional"),
    "DataLoader.Train.loader.use_shared_memory": (None, "workers pass batches without /dev/shm"),
    "DataLoader.Eval.loader.use_shared_memory": (None, "evaluation has no worker processes"),
    "DataLoader.Eval.dataset.concat_mem_file_name": (None, "the .bin files of val_data_path are read"),
    "Infer": (None, "inference reads its images from the command line"),
}

# PaddleClas's name -> (our name, {PaddleClas's argument: our argument}).
_HEADS = {"AdaMargin": ("AdaMargin", {"m": "margin", "s": "scale"})}
_DATASETS = {
    "AdaFaceDataset": (
        "ImageNetDataset",
        {"root_dir": "image_root", "label_path": "cls_label_path", "transform": "transform_ops"},
    ),
    "FiveValidationDataset": ("FiveFaceEvalDataset", {}),
}
_TRANSFORMS = {
    "CropWithPadding": "RandCropPad",
    "RandomInterpolationAugment": "RandLowResolution",
    "ColorJitter": "RandPhotometric",
    "RandomHorizontalFlip": "RandFlipImage",
    "Normalize": "NormalizeImage",
}
_FIVE_SETS = ["lfw", "cfp_fp", "agedb_30", "calfw", "cplfw"]
# Arguments of PaddleClas's transforms without a counterpart here, accepted at these values.
_NEUTRAL = {"padding_num": 0, "hue": 0, "size": [112, 112]}


def translate(tree: Tree) -> tuple[Tree, list[str], list[str]]:
    """Return the translated tree, a note for each key without effect, and the problems.

    Raises:
        ConfigError: the config is not for face recognition; one line instead of thirty problems.
    """
    mode, kind = _get(tree, "Global.eval_mode"), _other_kind(tree)
    if kind:
        problem = (
            f"this is a {kind} config of PaddleClas. ppfacerec only trains and evaluates face verification: use one of "
            "`ppfacerec configs`, or PaddleClas itself for other tasks."
        )
        raise ConfigError([problem])
    tree, notes, problems = thaw(tree), [], []
    for key, (harmless, reason) in KEYS.items():
        section, _, name = key.rpartition(".")
        parent = _get(tree, section)
        if not isinstance(parent, dict) or name not in parent:
            continue
        value = parent.pop(name)
        if harmless is None or any(value == one and type(value) is type(one) for one in harmless):
            notes.append(f"{key} ({reason})")
        else:
            problems.append(f"{key}: expected {harmless[0]!r} ({reason}), found {value!r} ({type(value).__name__}).")
    for rule in (_global, _arch, _optimizer, _data):
        rule(tree, problems)
    if mode == "adaface" and not _get(tree, "Metric.Eval"):
        tree["Metric"] = {"Eval": ["FaceAccOnFiveDatasets"]}
    return tree, notes, problems


def _other_kind(tree: Tree) -> Optional[str]:
    """Return the task of a PaddleClas config that is not for face recognition, else None."""
    mode, arch = _get(tree, "Global.eval_mode"), _get(tree, "Arch")
    if mode in ("retrieval", "classification"):
        return str(mode)
    if isinstance(_get(tree, "DataLoader.Eval.Gallery"), Mapping):
        return "retrieval"
    is_plain = isinstance(arch, Mapping) and "Backbone" not in arch and arch.get("name", "RecModel") != "RecModel"
    return "classification" if is_plain else None


def _get(tree: Any, path: str) -> Any:
    for key in filter(None, path.split(".")):
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _take(section: Any, key: str, default: Any = None) -> Any:
    return section.pop(key, default) if isinstance(section, dict) else default


def _global(tree: Tree, problems: list[str]) -> None:
    section, head = _get(tree, "Global"), _get(tree, "Arch.Head")
    classes = _take(section, "class_num")
    if classes is not None and classes != _get(head, "class_num"):
        problems.append(f"Global.class_num: {classes!r}, but Arch.Head.class_num sets the number of identities.")
    if isinstance(_get(section, "plugins"), str):  # a single name is a list of one
        section["plugins"] = [section["plugins"]]
    use_amp = _take(_get(tree, "AMP"), "use_amp", True)
    if use_amp is False:
        del tree["AMP"]
    elif use_amp is not True:
        problems.append(f"AMP.use_amp: expected True or False, found {use_amp!r}.")


def _arch(tree: Tree, problems: list[str]) -> None:
    sync = _take(_get(tree, "Arch"), "use_sync_bn")
    if sync is not None and isinstance(_get(tree, "Global"), dict):
        tree["Global"].setdefault("use_sync_bn", sync)
    backbone = _get(tree, "Arch.Backbone")
    match = re.match(r"AdaFace_IR_(\d+)$", str(_get(backbone, "name")))
    if match:
        backbone["name"] = f"IR{match[1]}"
    _rename(_get(tree, "Arch.Head"), _HEADS)


def _optimizer(tree: Tree, problems: list[str]) -> None:
    section = _get(tree, "Optimizer")
    regularizer = _take(section, "regularizer")
    if isinstance(regularizer, dict) and regularizer.get("name") == "L2":
        section["weight_decay"] = regularizer.get("coeff", 0.0)
    elif regularizer is not None:
        problems.append(f"Optimizer.regularizer: only {{name: L2, coeff: ...}} is supported, found {regularizer!r}.")
    schedule = _get(section, "lr")
    if _get(schedule, "name") == "Piecewise" and "learning_rate" in schedule:
        rate, values = schedule.pop("learning_rate"), schedule.get("values")
        if rate is not None and isinstance(values, list) and values[:1] != [rate]:
            problems.append(f"Optimizer.lr.learning_rate: {rate!r}, but Piecewise begins with values[0], {values[:1]}.")


def _data(tree: Tree, problems: list[str]) -> None:
    for part in ("Train", "Eval"):
        section = _get(tree, f"DataLoader.{part}")
        dataset = _get(section, "dataset")
        if not isinstance(dataset, dict):
            continue
        if dataset.get("name") == "FiveValidationDataset":
            dataset.setdefault("val_targets", _FIVE_SETS)
            norm = {"NormalizeImage": {"scale": 1 / 255, "mean": [0.5] * 3, "std": [0.5] * 3}}
            dataset.setdefault("transform_ops", [{"DecodeImage": {"to_rgb": True}}, norm])
        _rename(dataset, _DATASETS)
        if isinstance(dataset.get("val_targets"), str) and dataset["val_targets"] != "all":
            dataset["val_targets"] = [dataset["val_targets"]]
        if _get(section, "sampler.name") == "BatchSampler":
            section["sampler"]["name"] = "DistributedBatchSampler"
        if isinstance(dataset.get("transform_ops"), list):
            dataset["transform_ops"] = _transforms(dataset["transform_ops"])


def _transforms(ops: list[Any]) -> list[Any]:
    """Replace transforms of tensors (ToTensor, Normalize) by ours of bytes and uint8 images."""
    names = [next(iter(op), None) if isinstance(op, dict) else str(op) for op in ops]
    translated: list[Any] = [{"DecodeImage": {"to_rgb": True}}] if "ToTensor" in names else []
    for op, name in zip(ops, names):
        arguments = op[name] if isinstance(op, dict) and len(op) == 1 else None
        if name == "ToTensor":
            continue
        if not isinstance(arguments, dict):
            translated.append({_TRANSFORMS[name]: {}} if name in _TRANSFORMS else op)
            continue
        if name in _TRANSFORMS:
            kept = {k: v for k, v in arguments.items() if k not in _NEUTRAL or v != _NEUTRAL[k]}
            op = {_TRANSFORMS[name]: kept}
        quotient = _QUOTED_QUOTIENT.match(str(arguments.get("scale")))
        if quotient and isinstance(arguments["scale"], str) and float(quotient[2]):
            op = {next(iter(op)): {**arguments, "scale": float(quotient[1]) / float(quotient[2])}}
        translated.append(op)
    return translated


def _rename(spec: Any, table: Mapping[str, tuple[str, Mapping[str, str]]]) -> None:
    """Rename a component and its arguments to our names, in place."""
    if isinstance(spec, dict) and isinstance(spec.get("name"), str) and spec["name"] in table:
        spec["name"], arguments = table[spec["name"]]
        for there, here in arguments.items():
            if there in spec:
                spec[here] = spec.pop(there)
