"""Read untrusted pickles: `.bin`, `.pdparams`, `.pdopt`, `.pdstates`.

A pickle is a program: ``pickle.load`` and ``paddle.load`` run whatever it names. Here its opcodes are interpreted by a
small machine of our own that supports plain data (numbers, strings, lists, tuples, dicts) and NumPy arrays of numbers,
and can call nothing else. Nothing is imported, no attribute is set, no memory is allocated for a length only claimed.
"""

from ppfacerec.core.io.safe_pickle.machine import UnsafePickleError
from ppfacerec.core.io.safe_pickle.reader import load

__all__ = ["UnsafePickleError", "load"]
