"""Face-recognition training and evaluation for PaddlePaddle.

Importing this package starts nothing and does not import paddle.
"""

__version__ = "0.1.0"
