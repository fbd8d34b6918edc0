"""Files of weights of other programs, read without running anything."""
