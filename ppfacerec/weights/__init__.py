"""Weights from elsewhere and to elsewhere: file formats, the names of other projects' parameters, the zoo, downloads.

Nothing here needs another framework: PyTorch files are read by `torch_file`, safetensors by `safetensors_file`.
"""
