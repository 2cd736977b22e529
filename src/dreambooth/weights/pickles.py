"""Pickles read as data: nothing that a pickle names is ever imported or called.

A pickle is a little program that may call any function of any library. Here it may name only what the tables below hold:
plain containers, element types, and the functions that rebuild a tensor, which give an inert description instead. Every
other name becomes a placeholder that swallows what is done to it, and is reported.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import OrderedDict
from typing import Any, NamedTuple, Protocol

import torch

__all__ = ["Inert", "PickleReader", "StorageRecord", "TensorRecord", "printable"]

_LONGEST_TEXT = 200  # characters of a text from a file that are shown


class StorageRecord(NamedTuple):
    """A run of numbers in the file; `numel` and `start` count elements of `dtype`, both unchecked."""

    key: str
    dtype: torch.dtype
    numel: Any
    start: Any


class TensorRecord(NamedTuple):
    """A tensor as the pickle describes it. All numbers are unchecked: they come from the file."""

    storage: StorageRecord
    dtype: torch.dtype
    offset: Any
    size: Any
    stride: Any


class Inert:
    """Stands for an object that was not built. Each name gets its own subclass; calling anything gives a placeholder."""

    qualified_name = ""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        """Swallow arguments."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Inert:
        """Swallow arguments."""
        return self

    def __iter__(self) -> Any:
        return iter(())

    def __setstate__(self, _: Any) -> None:
        pass

    def __setitem__(self, _: Any, __: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        """Swallow one element."""

    def extend(self, _: Any) -> None:
        """Swallow elements."""

    def add(self, _: Any) -> None:
        """Swallow one element."""


# The next two are objects without attributes rather than functions: a pickle may set attributes of what it can name.
class _RebuildTensor:
    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Any:
        """Arguments of torch's functions of the versions 1 to 3; the third adds an element type of its own."""
        if not isinstance(storage, StorageRecord):
            return storage
        dtype = rest[2] if len(rest) > 2 and isinstance(rest[2], torch.dtype) else storage.dtype
        return TensorRecord(storage, dtype, offset, size, stride)


class _RebuildParameter:
    __slots__ = ()

    def __call__(self, data: Any, *_: Any) -> Any:
        return data


_ELEMENT_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
_CONTAINERS = {"dict": dict, "frozenset": frozenset, "list": list, "set": set, "tuple": tuple}
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, name): dtype for name, dtype in _ELEMENT_TYPES.items() for module in ("torch", "torch.cuda", "torch.storage")},
    **{("torch", name): value for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
    **{("builtins", name): value for name, value in _CONTAINERS.items()},
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _RebuildTensor(),
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_tensor_v3"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
    ("torch._utils", "_rebuild_parameter_with_state"): _RebuildParameter(),
}


class _Stream(Protocol):
    def read(self, length: int = ..., /) -> bytes: ...
    def readline(self) -> bytes: ...
    def seek(self, position: int, /) -> Any: ...
    def tell(self) -> int: ...


class PickleReader:
    """Reads the pickles of one file, one after another, and remembers what they named.

    `neutralised` maps each name that became a placeholder to its class, in order of appearance; `element_types` maps the
    key of each storage to the type of its numbers.
    """

    def __init__(self) -> None:
        self.neutralised: dict[str, type[Inert]] = {}
        self.element_types: dict[str, torch.dtype] = {}

    def read(self, stream: _Stream) -> Any:
        """The value of the pickle that starts at the stream's position; the stream is left behind it.

        Raises whatever a damaged or hostile pickle provokes: any Exception.
        """
        data = _next_pickle(stream)
        return _Unpickler(data, self).load()

    def placeholder(self, name: str) -> type[Inert]:
        """The placeholder class of a name, always the same one."""
        shown = printable(name)
        return self.neutralised.setdefault(shown, type("Inert", (Inert,), {"qualified_name": shown}))


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, reader: PickleReader) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8", errors="replace")
        self._reader = reader

    def find_class(self, module: str, name: str, /) -> Any:
        module = "builtins" if module == "__builtin__" else module  # its name in Python 2, and in pickles of protocol 2
        # A plain look-up of the pair: a dotted name (protocol 4) finds nothing, and no attribute is ever followed.
        found = _ALLOWED.get((module, name))
        return self._reader.placeholder(f"{module}.{name}") if found is None else found

    def persistent_load(self, pid: Any) -> Any:
        match pid:
            case ("storage", torch.dtype() as dtype, str() as key, _, numel, *view):
                self._reader.element_types.setdefault(key, dtype)
                return StorageRecord(key, dtype, numel, view[0][1] if view and isinstance(view[0], tuple) else 0)
            case ("storage", type() as kind, *_) if issubclass(kind, Inert):  # numbers of a type that is not read
                return kind()
            case ("module", type() as kind, *_) if issubclass(kind, Inert):  # the class of a pickled module, old format
                return kind
        return self._reader.placeholder("an object outside the pickle")()


def _next_pickle(stream: _Stream) -> bytes:
    """The bytes of one pickle. Refuses memo numbers that would make the unpickler reserve (and clear) gigabytes."""
    start, largest = stream.tell(), 0
    for opcode, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            largest = max(largest, int(argument or 0))
    length = stream.tell() - start
    if largest > length:
        raise pickle.UnpicklingError(f"memo number {largest} in a pickle of {length} bytes")
    stream.seek(start)
    return stream.read(length)


def printable(text: str) -> str:
    """A text from a file, fit for a terminal: no control characters, and not endless."""
    shown = "".join(character if character.isprintable() else "?" for character in text[:_LONGEST_TEXT])
    return shown + "..." if len(text) > _LONGEST_TEXT else shown
