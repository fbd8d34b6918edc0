"""Command line ``ppfacerec train | eval | ...``: argument definitions here, implementations in commands/."""

from ppfacerec.cli.main import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_USAGE, main, tool
from ppfacerec.cli.parser import EXIT_STOPPED

__all__ = ["EXIT_ERROR", "EXIT_INTERRUPTED", "EXIT_STOPPED", "EXIT_USAGE", "main", "tool"]
