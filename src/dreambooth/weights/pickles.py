"""Pickles read as data: nothing that a pickle names is ever imported or called, and nothing in one can hang the reader.

A pickle is a little program that may call any function of any library. Here it may name only what the tables below hold:
plain containers, element types, and the functions that rebuild a tensor, which give an inert description instead. Every
other name becomes a placeholder that swallows what is done to it, and is reported.

A tuple may hold the same tuple twice, and that one another twice, sixty levels deep: a few hundred bytes whose hash or text
would take years; a tuple a million levels deep crashes Python when it is hashed. So only plain keys are hashed (which the
library's faster reader, written in C, cannot be taught), and nothing unchecked is ever formatted.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple, Protocol

import torch

from dreambooth.reading import printable

__all__ = ["Inert", "ParameterTable", "PickleReader", "StorageRecord", "TensorRecord"]

_LONGEST_KEY = 16


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


class ParameterTable:
    """A table of torch's parameters by name, as old files of learned words have; `parameters` are its tensors."""

    __slots__ = ("parameters",)

    def __init__(self) -> None:
        self.parameters: dict[Any, Any] = {}

    def __setstate__(self, state: Any) -> None:
        found = state.get("_parameters") if isinstance(state, dict) else None
        self.parameters = dict(found) if isinstance(found, dict) else {}


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


def _is_key(value: Any) -> bool:
    """Whether hashing the value takes no time: texts, numbers, names, and flat tuples of these."""
    if type(value) is tuple:
        return len(value) <= _LONGEST_KEY and all(type(part) is not tuple and _is_key(part) for part in value)
    return value is None or isinstance(value, str | bytes | int | float | type | torch.dtype | Inert)


def _check_keys(values: Iterable[Any]) -> None:
    for value in values:
        if not _is_key(value):
            raise pickle.UnpicklingError(f"a key of the type {type(value).__name__}")


class _Keyed:
    """A container that is built from values which are hashed."""

    __slots__ = ("_kind",)

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def __call__(self, *arguments: Any) -> Any:
        """Arguments of `dict`, `OrderedDict`, `set` or `frozenset`."""
        for values in arguments:
            if not isinstance(values, dict | set | frozenset | list | tuple | Inert):
                raise pickle.UnpicklingError(f"a {self._kind.__name__} made of a {type(values).__name__}")
            is_mapping = issubclass(self._kind, dict) and not isinstance(values, dict)
            _check_keys(pair[0] for pair in values) if is_mapping else _check_keys(values)
        return self._kind(*arguments)


_CONTAINERS = {
    **{"list": list, "tuple": tuple},
    **{"dict": _Keyed(dict), "frozenset": _Keyed(frozenset), "set": _Keyed(set)},
}
_READ_TYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool),
)
"""Others (complex numbers, bits, quantized numbers) stand for no weights, and most operations refuse them."""
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, name): dtype for name, dtype in _ELEMENT_TYPES.items() for module in ("torch", "torch.cuda", "torch.storage")},
    **{("torch", str(dtype).removeprefix("torch.")): dtype for dtype in _READ_TYPES},
    **{("builtins", name): value for name, value in _CONTAINERS.items()},
    ("collections", "OrderedDict"): _Keyed(OrderedDict),
    ("torch", "Size"): tuple,
    ("torch.nn.modules.container", "ParameterDict"): ParameterTable,
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


_UNCHECKED: dict[int, Callable[[Any], None]] = dict(pickle._Unpickler.dispatch)
_HASHED: dict[bytes, Callable[[list[Any]], Iterable[Any]]] = {
    pickle.SETITEM: lambda stack: stack[-2:-1],
    pickle.SETITEMS: lambda stack: stack[::2],
    pickle.DICT: lambda stack: stack[::2],
    pickle.ADDITEMS: lambda stack: stack,
    pickle.FROZENSET: lambda stack: stack,
}
"""What the opcodes that fill dictionaries and sets hash, of the values above the last mark."""


def _with_checked_keys(opcode: bytes) -> Callable[[Any], None]:
    def load(unpickler: Any) -> None:
        _check_keys(_HASHED[opcode](unpickler.stack))
        _UNCHECKED[opcode[0]](unpickler)

    return load


class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **_UNCHECKED,
        **{opcode[0]: _with_checked_keys(opcode) for opcode in _HASHED},
    }

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
