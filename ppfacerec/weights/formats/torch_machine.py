"""Interpret the pickle of a PyTorch file: plain data, tensors, and inert stand-ins for other objects."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ppfacerec.core.io.safe_pickle import UnsafePickleError
from ppfacerec.core.io.safe_pickle.arrays import GLOBALS, Call
from ppfacerec.core.io.safe_pickle.machine import Machine
from ppfacerec.weights.formats.torch_tensors import STORAGE_DTYPES, Storage, rebuild_tensor

# (dtype, key, numel) -> the storage
OpenStorage = Callable[[str, str, int], Storage]

# Checkpoints also hold objects of these packages (callbacks, hyper-parameters, schedulers). They are replaced by an
# `Unread`. Objects of other packages count as hostile.
TRAINING_PACKAGES = {
    "argparse", "collections", "easydict", "lightning", "lightning_fabric", "lightning_utilities", "omegaconf",
    "pathlib", "pytorch_lightning", "torch", "yacs", "__torch__",
}  # fmt: skip
_HARMLESS_BUILTINS = {"set", "frozenset", "object", "list", "dict", "int", "float", "str", "bool", "complex", "slice"}

_TORCH_CALLS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *unused: data,
    ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *unused: data,
}


class Unread(dict[Any, Any]):
    """A stand-in for an object of another program's class; a module's attributes and items are kept as items.

    Attributes:
        class_name: "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint".
    """

    def __init__(self, class_name: str) -> None:
        super().__init__()
        self.class_name = class_name


class _UnreadClass(Call):
    """A class that is not imported; calling it gives an `Unread`, whatever the arguments."""

    def __init__(self, class_name: str) -> None:
        super().__init__(lambda *arguments: Unread(class_name))
        self.class_name = class_name


class TorchMachine(Machine):
    """Add tensors to plain data; `open_storage` is called for every storage that the pickle refers to."""

    def __init__(self, open_storage: OpenStorage, encoding: str, size: int) -> None:
        super().__init__(encoding, size)
        self._open_storage = open_storage

    def find_global(self, module: str, name: str) -> Any:
        if (module, name) in _TORCH_CALLS:
            return Call(_TORCH_CALLS[module, name])
        if (module, name) in GLOBALS:
            return GLOBALS[module, name]
        is_builtin = module in ("builtins", "__builtin__") and name in _HARMLESS_BUILTINS
        if is_builtin or module.split(".")[0] in TRAINING_PACKAGES:
            return _UnreadClass(f"{module}.{name}")
        hint = ""
        if name[:1].isupper():  # a class: torch.save(model) instead of torch.save(model.state_dict())
            hint = " (if a whole model was saved: save its state_dict() instead, which is tensors only)"
        raise UnsafePickleError(f"tries to import {module[:200]}.{name[:200]}{hint}")

    def key(self, value: Any) -> Any:
        if isinstance(value, _UnreadClass):  # Lightning's callbacks
            return value.class_name
        return super().key(value)

    def plain(self, value: Any) -> Any:
        return Unread(value.class_name) if isinstance(value, _UnreadClass) else super().plain(value)

    def op_binpersid(self, _: Any) -> None:
        self.stack.append(self._storage(self.pop()))

    def op_newobj(self, _: Any) -> None:
        arguments, made_from = self.pop(), self.pop()
        if not isinstance(made_from, _UnreadClass) or not isinstance(arguments, tuple):
            raise UnsafePickleError("creates an object of a class that is not allowed")
        self.stack.append(Unread(made_from.class_name))

    def op_build(self, _: Any) -> None:
        """Set attributes: an `Unread` keeps them as items; those of an OrderedDict are PyTorch's ``_metadata``."""
        if len(self.stack) >= 2 and isinstance(self.stack[-2], (Unread, OrderedDict)):
            state = self.pop()
            if isinstance(self.stack[-1], Unread) and isinstance(state, dict):
                self.stack[-1].update(state)
            return
        super().op_build(_)

    def op_append(self, _: Any) -> None:
        if len(self.stack) >= 2 and isinstance(self.stack[-2], Unread):
            self.pop()
            return
        super().op_append(_)

    def op_appends(self, _: Any) -> None:
        if self.below_marks and self.below_marks[-1] and isinstance(self.below_marks[-1][-1], Unread):
            self.pop_mark()
            return
        super().op_appends(_)

    def _storage(self, identifier: Any) -> Storage:
        """Open the storage of a persistent id: ("storage", class, key, device, numel[, view])."""
        if not isinstance(identifier, tuple) or len(identifier) < 5 or identifier[0] != "storage":
            raise ValueError("a persistent id is not (storage, class, key, device, numel)")
        _, kind, key, _, numel, *view = identifier
        name = kind.class_name.rpartition(".")[2] if isinstance(kind, _UnreadClass) else ""
        if name not in STORAGE_DTYPES:
            raise ValueError(
                f"a tensor is a {name or 'thing without a name'}; only {', '.join(STORAGE_DTYPES)} are read (no "
                "quantised, complex or float8 numbers)"
            )
        if not isinstance(key, str) or type(numel) is not int or not 0 <= numel < 2**48:
            raise ValueError("a storage's key or size has the wrong type")
        if any(part is not None for part in view):
            raise ValueError("a storage is part of another one (PyTorch 0.3 and older); save it again")
        return self._open_storage(STORAGE_DTYPES[name], key, numel)
