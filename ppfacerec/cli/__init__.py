"""The command line: ``ppfacerec train | eval | ...``; one file for each group of commands."""

from ppfacerec.cli.main import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_STOPPED, EXIT_USAGE, main, tool

__all__ = ["EXIT_ERROR", "EXIT_INTERRUPTED", "EXIT_STOPPED", "EXIT_USAGE", "main", "tool"]
