"""The files of a checkpoint, complete or absent."""
