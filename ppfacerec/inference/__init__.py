"""Using a model: embeddings of images, comparing faces, searching among enrolled people, grouping."""
