"""Who watches a training: health, watchdog, VisualDL."""
