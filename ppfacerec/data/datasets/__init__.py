"""Training sets (label files, folders, records) and the identity of their classes."""
