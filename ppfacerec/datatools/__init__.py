"""Programs that make data sets: align, convert, make-bin, show-batch, doctor."""
