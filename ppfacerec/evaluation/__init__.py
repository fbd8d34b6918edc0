"""Verification of networks and of other programs' embeddings."""
