"""python tools/infer.py embed IMAGES --model output/X/best_model --out emb.npz: the same as `ppfacerec infer`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a clone that is not installed, too

from ppfacerec.cli import tool

sys.exit(tool("infer"))
