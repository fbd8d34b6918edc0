"""A pickle's stack machine that can neither import, nor call, nor set attributes."""

import pickletools
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np

from ppfacerec.core.io.safe_pickle.arrays import GLOBALS, INTERNAL, Array, Call, Parts
from ppfacerec.core.io.safe_pickle.limits import BadPickleError, check_key, check_tree

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {"INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_LITERALS |= {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_LITERALS |= {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class UnsafePickleError(ValueError):
    """A pickle tries to import or call something that is not allowed."""


class Machine:
    """Stack, marks and memo as in ``pickle.py``. Values on the stack are plain data or of the types in INTERNAL."""

    def __init__(self, encoding: str, size: int) -> None:
        self.encoding = encoding
        self.budget = 2 * size + 1024  # bytes and elements that calls may create
        self.stack: list[Any] = []
        self.below_marks: list[list[Any]] = []  # the stacks under each open mark
        self.memo: dict[int, Any] = {}

    def run(self, source: BinaryIO) -> Any:
        for opcode, argument, _ in pickletools.genops(source):
            self.step(opcode.name, argument)
        result = self.plain(self.pop())
        check_tree(result)
        return result

    def step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self.push_tuple([self.pop() for _ in range(_TUPLES[name])][::-1])
        else:
            handler = getattr(self, "op_" + name.lower(), None)
            if handler is None:
                raise UnsafePickleError(f"uses the opcode {name}, which plain data does not need")
            handler(argument)

    def pop(self) -> Any:
        if not self.stack:
            raise BadPickleError("a value is missing on the stack")
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        if not self.below_marks:
            raise BadPickleError("a mark is missing on the stack")
        items, self.stack = self.stack, self.below_marks.pop()
        return items

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise BadPickleError(f"a {kind.__name__} was expected on the stack")
        return self.stack[-1]

    def plain(self, value: Any) -> Any:
        if isinstance(value, INTERNAL):
            raise BadPickleError("a function, a dtype or an unfinished array stands where a value should be")
        return value

    # Protocol, marks, memo ------------------------------------------------------------------------------------------

    def op_proto(self, _: Any) -> None:
        pass

    op_frame = op_proto  # only a hint for buffering

    def op_stop(self, _: Any) -> None:
        if len(self.stack) != 1 or self.below_marks:
            raise BadPickleError("values are left on the stack")

    def op_mark(self, _: Any) -> None:
        self.below_marks.append(self.stack)
        self.stack = []

    def op_pop(self, _: Any) -> None:
        self.pop() if self.stack else self.pop_mark()

    def op_pop_mark(self, _: Any) -> None:
        self.pop_mark()

    def op_memoize(self, _: Any) -> None:
        self.op_put(len(self.memo))

    def op_put(self, key: int) -> None:
        value = self.top(object)
        if not 0 <= key < 2**32:
            raise BadPickleError("a memo number is out of range")
        if isinstance(value, Array):
            value.memo_keys.append(key)
        self.memo[key] = value

    op_binput = op_long_binput = op_put

    def op_get(self, key: int) -> None:
        if key not in self.memo:
            raise BadPickleError(f"memo {key} was never written")
        self.stack.append(self.memo[key])

    op_binget = op_long_binget = op_get

    # Python 2's strings ---------------------------------------------------------------------------------------------

    def op_string(self, text: str) -> None:
        data = text.encode("latin1")  # pickletools decodes by latin1
        self.stack.append(data if self.encoding == "bytes" else data.decode(self.encoding))

    op_binstring = op_short_binstring = op_string

    # Containers -----------------------------------------------------------------------------------------------------

    def push_tuple(self, items: list[Any]) -> None:
        self.stack.append(Parts(items) if any(isinstance(item, INTERNAL) for item in items) else tuple(items))

    def op_tuple(self, _: Any) -> None:
        self.push_tuple(self.pop_mark())

    def op_list(self, _: Any) -> None:
        items = [self.plain(item) for item in self.pop_mark()]
        self.stack.append(items)

    def op_append(self, _: Any) -> None:
        item = self.plain(self.pop())
        self.top(list).append(item)

    def op_appends(self, _: Any) -> None:
        items = [self.plain(item) for item in self.pop_mark()]
        self.top(list).extend(items)

    def op_dict(self, _: Any) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self.set_items(items)

    def op_setitem(self, _: Any) -> None:
        self.set_items([self.pop(), self.pop()][::-1])

    def op_setitems(self, _: Any) -> None:
        self.set_items(self.pop_mark())

    def set_items(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise BadPickleError("a dict has a key without a value")
        target = self.top(dict)
        for key, value in zip(items[0::2], items[1::2]):
            target[self.key(key)] = self.plain(value)

    # Globals and calls ----------------------------------------------------------------------------------------------

    def op_global(self, module_and_name: str) -> None:
        self.stack.append(self.find_global(*module_and_name.split(" ", 1)))

    def op_stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise BadPickleError("a name to import is not a string")
        self.stack.append(self.find_global(module, name))

    def op_inst(self, module_and_name: str) -> None:
        raise UnsafePickleError(f"tries to import {module_and_name.replace(' ', '.', 1)[:200]}")

    def op_reduce(self, _: Any) -> None:
        arguments = self.pop()
        call = self.pop()
        if not isinstance(call, Call) or not isinstance(arguments, tuple):
            raise BadPickleError("something that is not a function is called")
        try:
            self.push_made(call.function(*arguments))
        except TypeError as error:
            raise BadPickleError(f"a function is called with the wrong arguments ({error})") from error

    def op_build(self, _: Any) -> None:
        state = self.pop()
        target = self.pop()
        if not isinstance(target, INTERNAL) or not hasattr(target, "build"):
            raise UnsafePickleError(f"sets attributes of a {type(target).__name__}")
        built = target.build(state)
        for key in getattr(target, "memo_keys", ()):
            self.memo[key] = built
        self.push_made(built)

    def push_made(self, made: Any) -> None:
        """Push the result of a call; a long string in the memo must not become a million arrays or copies."""
        if isinstance(made, np.ndarray):
            self.budget -= made.nbytes
        elif isinstance(made, (bytes, tuple, OrderedDict)):
            self.budget -= len(made)
        if self.budget < 0:
            raise BadPickleError("it expands to far more than the file holds")
        self.stack.append(made)

    # Extension points of formats built on pickle --------------------------------------------------------------------

    def find_global(self, module: str, name: str) -> Any:
        """Return the stack value that represents a global name; nothing is imported."""
        if (module, name) not in GLOBALS:
            raise UnsafePickleError(f"tries to import {module[:200]}.{name[:200]}")
        return GLOBALS[module, name]

    def key(self, value: Any) -> Any:
        """Return a dict's key."""
        return check_key(value)
