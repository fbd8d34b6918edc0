"""Implementations of the commands; imported on use, since most need Paddle."""
