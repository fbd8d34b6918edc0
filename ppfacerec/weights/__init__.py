"""Weights of other projects: file formats, parameter names, the zoo, downloads.

Nothing here needs another framework: PyTorch files are read by `torch_file`, safetensors by `safetensors_file`.
"""
