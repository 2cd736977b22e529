"""Tensor files, recognized by content, never by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.reading import printable
from dreambooth.weights.safetensors_file import LONGEST_HEADER, read_safetensors
from dreambooth.weights.torch_files import LEGACY_START, ZIP_START, read_torch_legacy, read_torch_zip

__all__ = ["TensorFile", "open_tensor_file"]

_EXPECTED = "Give a .ckpt or .safetensors file of Stable Diffusion."
_GET_FILE = "Download the file itself again; a model file of Stable Diffusion 1 is 2 to 8 GB in size."
_HEAD = 512  # bytes that decide what a file is

_KNOWN_STARTS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBP", "a WebP image"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftypavis", "an AVIF image"),
    (4, b"ftyphe", "a HEIC image"),
    (4, b"ftypmif1", "a HEIC image"),
    (4, b"ftyp", "a video"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (0, b"BM", "a BMP image"),
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"%PDF", "a PDF document"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"\xfd7zXZ", "an xz archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"\x89HDF", "an HDF5 file (TensorFlow, Keras)"),
    (0, b"GGUF", "a GGUF file (llama.cpp, stable-diffusion.cpp)"),
    (0, b"\x80", "a Python pickle not written by torch.save"),
)


@dataclass(frozen=True)
class TensorFile:
    """What one file holds.

    `tensors` are views of the mapped file and cost memory when they are touched. `neutralised` are the Python names in a
    pickle that were replaced by placeholders; `metadata` is the text of a safetensors header; `bookkeeping` are the plain
    values that stood beside a pickle's tensors (global_step, epoch, ...), as text.
    """

    path: Path
    format: Literal["pickle", "safetensors"]
    tensors: dict[str, Tensor]
    neutralised: tuple[str, ...]
    metadata: dict[str, str]
    bookkeeping: dict[str, str]


def open_tensor_file(path: Path, *, also_in: tuple[str, ...] = ()) -> TensorFile:
    """Open a tensor file of either format, recognised by its first bytes.

    The tensors of a pickle are a state dict, or in a dictionary of one of the names `also_in`.

    Raises ModelFileError, saying what the file is, when it is missing, empty, truncated, damaged or something else.
    """
    _check_is_file(path)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if head.startswith((ZIP_START, LEGACY_START)):
            read = read_torch_zip if head.startswith(ZIP_START) else read_torch_legacy
            found = read(path, also_in=also_in)
            return TensorFile(path, "pickle", found.tensors, found.neutralised, {}, found.bookkeeping)
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= LONGEST_HEADER:
            tensors, metadata = read_safetensors(path)
            return TensorFile(path, "safetensors", tensors, (), metadata, {})
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    raise _unknown(path, head)


def _check_is_file(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise ModelFileError(f"{path}: a link to {path.readlink()}, which does not exist", hint=_EXPECTED)
    if not path.exists():
        raise ModelFileError(f"{path}: no such file", hint="Check the path; it is relative to the current folder.")
    if path.is_dir():
        raise ModelFileError(f"{path}: is a folder; expected a single file", hint=_EXPECTED)
    if not path.is_file():
        raise ModelFileError(f"{path}: not a regular file", hint=_EXPECTED)
    if path.stat().st_size == 0:
        raise ModelFileError(f"{path}: the file is empty (0 bytes)", hint=_GET_FILE)


def _unknown(path: Path, head: bytes) -> ModelFileError:
    for start, mark, name in _KNOWN_STARTS:
        if head[start : start + len(mark)] == mark:
            return ModelFileError(f"{path}: {name}, not a model file", hint=_EXPECTED)
    if not head.strip(b"\0"):
        return ModelFileError(f"{path}: begins with zero bytes only, like an unfinished download", hint=_GET_FILE)
    text = _as_text(head)
    if text is None:
        first = head[:8].hex(" ")
        return ModelFileError(f"{path}: not a known kind of model file; it begins with the bytes {first}", hint=_EXPECTED)
    if text.startswith("version https://git-lfs"):
        return ModelFileError(
            f"{path}: a git-lfs pointer of {path.stat().st_size} bytes, not the model file itself",
            hint=f"Run `git lfs pull` in {path.parent}, or download the file itself.",
        )
    if text.lower().startswith(("<!doctype html", "<html", "<?xml")):
        return ModelFileError(
            f"{path}: a web page, not a model file: the download failed or required a login, and the page was saved instead",
            hint=_GET_FILE,
        )
    return ModelFileError(f'{path}: a text file, not a model file; it begins with "{printable(text[:60])}"', hint=_GET_FILE)


def _as_text(head: bytes) -> str | None:
    """The beginning of a file as text, without leading blanks; None when it is not text."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # a character cut at the end of the head is no objection
            return None
        text = head[: error.start].decode("utf-8-sig")
    blanks = "\t\n\r"
    return text.lstrip() if all(character.isprintable() or character in blanks for character in text) else None
