"""The size of an aligned face, the only one that the backbones take."""

IMAGE_SIZE = 112  # height and width, pixels
IMAGE_SHAPE = (IMAGE_SIZE, IMAGE_SIZE, 3)
