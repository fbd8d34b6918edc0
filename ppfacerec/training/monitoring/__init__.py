"""Monitoring of a training: health, watchdog, VisualDL."""
