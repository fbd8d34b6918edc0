"""python tools/export_model.py -o Global.pretrained_model=output/X/best_model: the same as `ppfacerec export`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a clone that is not installed, too

from ppfacerec.cli import tool

sys.exit(tool("export"))
