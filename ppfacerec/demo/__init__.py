"""Synthetic faces for the quick start."""
