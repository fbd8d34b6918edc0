"""From a training set to batches: order, workers, bad images."""
