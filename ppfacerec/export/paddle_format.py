"""Paddle's inference model: a program (inference.json, on Paddle 2.6 inference.pdmodel) and inference.pdiparams."""

from pathlib import Path

from ppfacerec.core.device.inference import program_file, save_program
from ppfacerec.export.network import ExportedNetwork
from ppfacerec.inference.runners import STEM


def save_paddle(network: ExportedNetwork, folder: Path) -> list[str]:
    """Write the program and its parameters; return the files' names."""
    save_program(network, network.input_spec(), folder / STEM)
    return [program_file(folder / STEM).name, f"{STEM}.pdiparams"]
