"""Weights of other projects: file formats, parameter names, the zoo, downloads.

No other framework is needed: `torch_file` reads PyTorch's files, `safetensors_file` those of safetensors.
"""
