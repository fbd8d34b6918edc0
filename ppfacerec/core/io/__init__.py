"""Files: one reader and one writer for each kind."""
