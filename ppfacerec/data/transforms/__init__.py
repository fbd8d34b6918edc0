"""Decoding, transforms and alignment of images."""
