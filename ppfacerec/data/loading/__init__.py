"""From a training set to batches: order, workers, what becomes of bad images."""
