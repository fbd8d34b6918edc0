"""``python -m ppfacerec``."""

import sys

from ppfacerec.cli import main

sys.exit(main())
