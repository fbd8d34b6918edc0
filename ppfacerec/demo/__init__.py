"""The drawn faces of the quick start."""
