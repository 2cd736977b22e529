"""Files written by torch.save: the zip archive of today and the plain sequence of pickles before torch 1.6.

Only the pickle is read here. The numbers stay in the file until they are touched, and what is not part of the state dict
(optimizer states above all) is never touched.
"""

from __future__ import annotations

import io
import mmap
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.reading import printable, shown_value
from dreambooth.weights.mapped_tensors import map_tensors
from dreambooth.weights.pickles import Inert, ParameterTable, PickleReader, TensorRecord

__all__ = ["LEGACY_START", "ZIP_START", "TorchFile", "read_torch_legacy", "read_torch_zip"]

ZIP_START = b"PK\x03\x04"
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a pickle of the number that torch opened its files with
_LEGACY_PROTOCOL = 1001
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
_DOWNLOAD_AGAIN = "Download or copy the file again and compare its size with the source."


@dataclass(frozen=True)
class TorchFile:
    """The tensors of a state dict, the names that became placeholders, and the plain values beside the tensors."""

    tensors: dict[str, Tensor]
    neutralised: tuple[str, ...]
    bookkeeping: dict[str, str]


def read_torch_zip(path: Path, *, also_in: tuple[str, ...] = ()) -> TorchFile:
    """Map the tensors of a file in torch's zip format; `also_in` names further dictionaries in which they may be.

    Raises ModelFileError when the file is truncated, is another kind of archive, is compressed or encrypted, was written on
    a machine of the other byte order, or describes tensors that do not lie inside their storage.
    """
    with path.open("rb") as file:
        archive = _Archive(path, file)
        if "constants.pkl" in archive.entries:
            raise ModelFileError(
                f"{path}: a TorchScript program, not a checkpoint", hint="Give the checkpoint that it was made from."
            )
        if "byteorder" in archive.entries:
            _check_byte_order(path, archive.read("byteorder").decode("ascii", "replace"))
        reader, pickled = PickleReader(), io.BytesIO(archive.read("data.pkl"))
        records, bookkeeping = _guarded(path, lambda: _state_dict(path, reader.read(pickled), also_in))
        tensors = map_tensors(path, records, lambda key: archive.locate(f"data/{key}"))
    return TorchFile(tensors, tuple(reader.neutralised), bookkeeping)


def read_torch_legacy(path: Path, *, also_in: tuple[str, ...] = ()) -> TorchFile:
    """`read_torch_zip` for a file in torch's format before version 1.6. Raises ModelFileError as it does."""
    reader = PickleReader()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:

        def read_all() -> Any:
            _, protocol, system, value, keys = (reader.read(stream) for _ in range(5))
            if type(protocol) is not int or protocol != _LEGACY_PROTOCOL:
                found = protocol if type(protocol) is int and protocol < 2**32 else "of another kind"
                raise ValueError(f"protocol {found}, expected {_LEGACY_PROTOCOL}")
            if not (isinstance(keys, list) and all(isinstance(key, str) for key in keys)):  # unchecked, so they are not shown
                raise ValueError("the keys of its storages are no list of texts")
            _check_byte_order(path, "little" if system["little_endian"] else "big")
            return *_state_dict(path, value, also_in), _legacy_places(stream, keys, reader)

        records, bookkeeping, places = _guarded(path, read_all)
    return TorchFile(map_tensors(path, records, places.__getitem__), tuple(reader.neutralised), bookkeeping)


def _legacy_places(stream: mmap.mmap, keys: list[str], reader: PickleReader) -> dict[str, tuple[int, int]]:
    """Behind the pickles, for each key: the number of elements in 8 bytes, then the elements."""
    places, position = {}, stream.tell()
    for key in keys:
        length = int.from_bytes(stream[position : position + 8], "little") * reader.element_types[key].itemsize
        if position + 8 + length > len(stream):
            raise EOFError(f"storage {key} ends at byte {position + 8 + length:,} of {len(stream):,}")
        places[key] = (position + 8, length)
        position += 8 + length
    return places


def _guarded(path: Path, read: Callable[[], Any]) -> Any:
    """Do `read`; whatever a damaged or hostile pickle provokes (recursion and memory included) becomes our error."""
    try:
        return read()
    except ModelFileError:
        raise
    except Exception as error:
        what = printable(f"{type(error).__name__}: {error}")
        raise ModelFileError(f"{path}: the pickle in it is truncated or damaged ({what})", hint=_DOWNLOAD_AGAIN) from error


def _check_byte_order(path: Path, order: str) -> None:
    if order != sys.byteorder:
        raise ModelFileError(
            f"{path}: written with {printable(order)}-endian numbers; this machine is {sys.byteorder}-endian",
            hint="Convert it to .safetensors on the machine that wrote it.",
        )


class _Archive:
    """The open zip archive: `entries` by their name inside torch's one folder."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file, self._size = path, file, path.stat().st_size
        try:
            entries = zipfile.ZipFile(file).infolist()
        except Exception as error:  # the library lets many kinds of error out of a damaged table of contents
            raise ModelFileError(
                f"{path}: a torch file of {self._size:,} bytes whose central directory is missing or damaged, as "
                f"after an interrupted download ({printable(str(error))})",
                hint=_DOWNLOAD_AGAIN,
            ) from error
        names = [entry.filename for entry in entries]
        folders = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(folders) != 1:
            some = ", ".join(f"'{printable(name)}'" for name in names[:3]) or "nothing"
            raise ModelFileError(
                f"{path}: a zip archive not written by torch: it contains {some}, expected a folder with 'data.pkl'",
                hint="If it contains a model, unpack it and give the file or folder inside.",
            )
        self.entries = {entry.filename.removeprefix(folders[0]): entry for entry in entries}

    def read(self, name: str) -> bytes:
        """The bytes of an entry."""
        start, length = self.locate(name)
        self._file.seek(start)
        return self._file.read(length)

    def locate(self, name: str) -> tuple[int, int]:
        """First byte and number of bytes of an entry, which must lie in the file as it is. KeyError when there is none."""
        entry = self.entries[name]
        if entry.flag_bits & 1 or entry.compress_type != zipfile.ZIP_STORED:
            how = "encrypted" if entry.flag_bits & 1 else "compressed"
            raise ModelFileError(
                f"{self._path}: '{printable(name)}' in it is {how}, which torch never does: another program packed it",
                hint="Unpack the archive and pack it again without compression (zip -0 -r), or get the original file.",
            )
        inside = 0 <= entry.header_offset < self._size  # a damaged table of contents may hold any number
        self._file.seek(entry.header_offset if inside else self._size)
        header = self._file.read(30)
        start = entry.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        if header[:4] != ZIP_START or entry.compress_size != entry.file_size or start + entry.file_size > self._size:
            raise ModelFileError(f"{self._path}: '{printable(name)}' is not where the archive says", hint=_DOWNLOAD_AGAIN)
        return start, entry.file_size


def _state_dict(path: Path, value: Any, also_in: tuple[str, ...]) -> tuple[dict[str, TensorRecord], dict[str, str]]:
    """The tensors of the state dict in an unpickled value, and the plain values in it and around it as text."""
    chain = _chain(value, (*_WRAPPERS, *also_in), 4)
    if chain is None:
        raise _no_state_dict(path, value)
    bookkeeping = {
        printable(key): printable(item) if isinstance(item, str) else shown_value(item)
        for level in chain
        for key, item in level.items()
        if isinstance(key, str) and isinstance(item, bool | int | float | str)
    }
    records: dict[str, TensorRecord] = {}
    for key, item in chain[-1].items():
        if isinstance(key, str) and isinstance(item, TensorRecord):
            records[key] = item
        elif isinstance(item, Inert):  # a weight of a kind that is not read must not vanish without a word
            bookkeeping[_shown_key(key)] = f"left out: an object of {item.qualified_name}"
    return records, bookkeeping


def _chain(value: Any, wrappers: tuple[str, ...], depth: int) -> list[dict[Any, Any]] | None:
    """The dictionaries from the outermost one to the one that holds the tensors; None when there is none."""
    value = value.parameters if isinstance(value, ParameterTable) else value
    if not isinstance(value, dict) or depth == 0:
        return None
    level = dict(value)  # of the plain type: a pickle may give an OrderedDict other methods
    for name in wrappers:
        if (inner := _chain(level.get(name), wrappers, depth - 1)) is not None:
            return [level, *inner]
    return [level] if any(isinstance(key, str) and isinstance(item, TensorRecord) for key, item in level.items()) else None


def _shown_key(key: Any) -> str:
    return printable(key) if isinstance(key, str) else shown_value(key)


def _no_state_dict(path: Path, value: Any) -> ModelFileError:
    hint = "Give a checkpoint: a dictionary of tensors, bare or under 'state_dict'."
    if isinstance(value, Inert):
        what = f"an object of the Python class {value.qualified_name}, which is never loaded"
        hint = "Save the model's state_dict() instead of the model, with the program that wrote this file."
    elif isinstance(value, dict):
        keys = ", ".join(f"'{_shown_key(key)}'" for key in list(value)[:8])
        what = f"a dictionary without a state dict; its keys are {keys}" if keys else "an empty dictionary"
    else:
        what = "a single tensor" if isinstance(value, TensorRecord) else f"a {type(value).__name__}"
    return ModelFileError(f"{path}: no model weights in this torch file: it contains {what}", hint=hint)
