"""Use a model: embed images, compare faces, search enrolled people, cluster."""
