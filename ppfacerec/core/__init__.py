"""Foundations of all other packages: registry, log, ranges, environment."""
