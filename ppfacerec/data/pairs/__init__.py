"""Verification sets: images and pairs of them."""
