"""The version of the toolkit; checkpoints, exports and the ranks of a training compare it."""

__version__ = "0.1.0"
