"""Size of an aligned face, the only input size of the backbones."""

IMAGE_SIZE = 112  # height and width, pixels
IMAGE_SHAPE = (IMAGE_SIZE, IMAGE_SIZE, 3)
