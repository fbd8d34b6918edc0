"""ONNX export: paddle2onnx translates the program, onnxruntime folds constants and batch norms.

A batch norm in front of a padded convolution (IResNet, IR) cannot be folded: the padding is not normalised.
"""

import contextlib
import hashlib
import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import paddle

from ppfacerec.core.device.inference import program_file
from ppfacerec.export.network import INPUT, OUTPUT
from ppfacerec.inference.exported import METADATA, METADATA_DIGEST, NO_DIGEST
from ppfacerec.inference.runners import needed
from ppfacerec.weights.info import ModelInfo

OPSET, IR_VERSION = 13, 8


def save_onnx(prefix: Path, target: Path, info: ModelInfo, for_cpu: bool = False) -> None:
    """Translate an inference model to ONNX.

    Args:
        prefix: Paddle's inference model, without suffix.
        info: stored in the file's metadata, as JSON under "ppfacerec".
        for_cpu: write PReLU as convolutions, see `_prelu_as_convolutions`.

    Raises:
        ImportError: a package is missing; the message says how to install it.
        ValueError: Paddle is older than 3, or paddle2onnx cannot translate the program.
    """
    if paddle.__version__.split(".")[0] == "2":
        raise ValueError(
            f"ONNX export needs Paddle 3 (paddle2onnx 2 reads its programs), this is {paddle.__version__}. Export the "
            "same weights with Paddle 3."
        )
    onnx, onnxruntime, paddle2onnx = (needed(name) for name in ("onnx", "onnxruntime", "paddle2onnx"))
    raw = target.with_name(f"{target.name}.raw")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            paddle2onnx.export(
                str(program_file(prefix)), f"{prefix}.pdiparams", str(raw), opset_version=OPSET, enable_optimize=False,
                optimize_tool="None",
            )  # fmt: skip
        if not raw.is_file():
            raise ValueError("it wrote no file")
        _fold(onnxruntime, raw, target)
    except (RuntimeError, UnboundLocalError, ValueError, OSError) as error:
        raise ValueError(f"paddle2onnx cannot translate this network: {error}") from error
    finally:
        raw.unlink(missing_ok=True)
    _finish(onnx, target, info, for_cpu)


def _fold(onnxruntime: ModuleType, source: Path, target: Path) -> None:
    """Fold constants, identities and batch norms with onnxruntime's basic level, which keeps to standard operators."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath, options.log_severity_level = str(target), 3
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def _finish(onnx: ModuleType, path: Path, info: ModelInfo, for_cpu: bool) -> None:
    """Set readable names, metadata, and only the operator sets in use; then run onnx's own check."""
    model = onnx.load(str(path))
    graph = model.graph
    renamed = {graph.input[0].name: INPUT, graph.output[0].name: OUTPUT}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value, name in ((graph.input[0], INPUT), (graph.output[0], OUTPUT)):
        value.name = name
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]
    if for_cpu:
        _prelu_as_convolutions(onnx, graph)
    used = {node.domain for node in graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    model.ir_version, model.producer_name = IR_VERSION, "ppfacerec"
    properties = {METADATA: json.dumps(info.to_tree()), METADATA_DIGEST: NO_DIGEST}
    onnx.helper.set_model_props(model, properties)
    digest = hashlib.sha256(model.SerializeToString()).hexdigest()
    onnx.helper.set_model_props(model, {**properties, METADATA_DIGEST: digest})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _prelu_as_convolutions(onnx: ModuleType, graph: Any) -> None:
    """Write PReLU(x) = relu(x) - a * relu(-x) with 1x1 depthwise convolutions; the results are equal bit for bit.

    onnxruntime's CPU kernel for PRelu takes half of MobileFaceNet's time and leaves the blocked layout of its
    convolutions (78 -> 184 images a second). A GPU needs one kernel for PRelu and four for this.
    """
    slopes = {tensor.name: onnx.numpy_helper.to_array(tensor).reshape(-1) for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type != "PRelu" or node.input[1] not in slopes:
            nodes.append(node)
            continue
        (x, slope), y = node.input, node.output[0]
        negative, scaled, positive = f"{y}.negative", f"{y}.scaled", f"{y}.positive"
        for name, weight in ((f"{y}.minus", -np.ones_like(slopes[slope])), (f"{y}.slope", -slopes[slope])):
            graph.initializer.append(onnx.numpy_helper.from_array(weight.reshape(-1, 1, 1, 1), name))
        one = {"group": len(slopes[slope]), "kernel_shape": [1, 1]}
        make = onnx.helper.make_node
        nodes += [
            make("Conv", [x, f"{y}.minus"], [f"{y}.flipped"], **one),
            make("Relu", [f"{y}.flipped"], [negative]),
            make("Conv", [negative, f"{y}.slope"], [scaled], **one),
            make("Relu", [x], [positive]),
            make("Add", [positive, scaled], [y]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
