"""Verification of networks and of embeddings made elsewhere."""
