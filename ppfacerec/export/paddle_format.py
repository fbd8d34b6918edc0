"""Paddle's inference model: a program (inference.json, on Paddle 2.6 inference.pdmodel) and inference.pdiparams."""

from pathlib import Path

from ppfacerec.export.network import ExportedNetwork
from ppfacerec.inference import Predictor, create_predictor, program_file, save_program

STEM = "inference"  # PaddleClas's


def save_paddle(network: ExportedNetwork, folder: Path) -> list[str]:
    """Write the program and its parameters; return the files' names."""
    save_program(network, network.input_spec(), folder / STEM)
    return [program_file(folder / STEM).name, f"{STEM}.pdiparams"]


def run_paddle(folder: Path, onednn: bool, num_threads: int = 1) -> Predictor:
    """Return the exported model in a folder, to be called with images on the CPU; see `create_predictor`."""
    return create_predictor(folder / STEM, onednn, num_threads)
