"""Version of the toolkit, compared by checkpoints, exports and the ranks of a training."""

__version__ = "0.1.0"
