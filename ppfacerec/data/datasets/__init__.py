"""Training sets: label files, folders, records, and who their classes are."""
