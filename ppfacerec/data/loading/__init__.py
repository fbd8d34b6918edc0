"""Batches of a training set: sampling, worker processes, bad images."""
