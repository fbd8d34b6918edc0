"""The command line: ``ppfacerec train | eval | ...``; arguments here, what the commands do in commands/."""

from ppfacerec.cli.main import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_USAGE, main, tool
from ppfacerec.cli.parser import EXIT_STOPPED

__all__ = ["EXIT_ERROR", "EXIT_INTERRUPTED", "EXIT_STOPPED", "EXIT_USAGE", "main", "tool"]
