"""python tools/eval.py -c config.yaml [-o KEY=VALUE ...]: the same as `ppfacerec eval`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a clone that is not installed, too

from ppfacerec.cli import tool

sys.exit(tool("eval"))
