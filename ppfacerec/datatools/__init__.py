"""Data tools: align, convert, make-bin, show-batch, doctor."""
