"""Pickles of a few hundred bytes that would crash Python or keep it busy for years."""

from __future__ import annotations

import pickle
import struct
import time
import zipfile
from pathlib import Path

import pytest

from dreambooth.errors import ModelFileError
from dreambooth.weights.containers import open_tensor_file
from dreambooth.weights.torch_files import LEGACY_START

DEEP = b")" + b"\x85" * 200_000  # tuples in each other, whose hash would overflow the stack
DOUBLED = b"K\x01" + b"2\x86" * 60  # (1, 1), then that tuple twice, ...: 2**60 numbers to hash or to show
NESTED_SETS = b"(K\x01\x91\x94" + b"".join(b"(h" + bytes([n]) + b"K\x01\x91\x94" for n in range(40))


def persistent(numel: bytes = b"K\x06") -> bytes:
    return b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + numel + b"tQ"


def tensor(
    *, offset: bytes = b"K\x00", size: bytes = b"K\x06\x85", stride: bytes = b"K\x01\x85", numel: bytes = b"K\x06"
) -> bytes:
    arguments = b"(" + persistent(numel) + offset + size + stride + b"\x89}t"
    return b"}X\x06\x00\x00\x00weightctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs"


def zipped(path: Path, program: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x04" + program + b".")
        archive.writestr("archive/data/0", struct.pack("<6f", *range(6)))
    return path


AXES = b"(" + b"K\x01" * 100_000 + b"t"
REFUSED = {
    "deep key": b"}" + DEEP + b"K\x01s",
    "deep key of several": b"}(" + DEEP + b"K\x01u",
    "deep key of a plain dictionary": b"(" + DEEP + b"K\x01d",
    "doubled key": b"}" + DOUBLED + b"K\x01s",
    "key of an ordered dictionary": b"ccollections\nOrderedDict\n(](" + DOUBLED + b"K\x01lat" + b"R",
    "member of a set": b"\x8f(" + DEEP + b"\x90",
    "member of a frozen set": b"(" + DOUBLED + b"\x91",
    "member of a set by its name": b"cbuiltins\nset\n(](" + DEEP + b"etR",
    "doubled size": tensor(size=DOUBLED),
    "doubled stride": tensor(stride=DOUBLED),
    "doubled offset": tensor(offset=DOUBLED),
    "doubled number of elements": tensor(numel=DOUBLED),
    "deep offset": tensor(offset=DEEP),
    "frozen sets as an offset": tensor(offset=NESTED_SETS),
    "many axes": tensor(size=AXES, stride=AXES),
    "huge offset": tensor(offset=b"\x8b" + struct.pack("<i", 100_000) + b"\x7f" * 100_000),
    "bytes without end": b"\x96" + struct.pack("<Q", 1 << 40),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_at_once(tmp_path: Path, what: str) -> None:
    path = zipped(tmp_path / "model.ckpt", REFUSED[what])
    start = time.process_time()
    with pytest.raises(ModelFileError) as caught:
        open_tensor_file(path)
    assert time.process_time() - start < 3 and len(caught.value.text) < 1500


@pytest.mark.parametrize("place", ["protocol", "system", "keys"])
@pytest.mark.parametrize("value", [DOUBLED, NESTED_SETS, DEEP])
def test_the_pickles_of_an_old_file_too(tmp_path: Path, place: str, value: bytes) -> None:
    hostile = b"\x80\x04" + value + b"."
    programs = {
        "protocol": pickle.dumps(1001, 2),
        "system": pickle.dumps({"little_endian": True}, 2),
        "state": b"\x80\x02" + tensor() + b".",
        "keys": pickle.dumps(["0"], 2),
    }
    if place == "keys":
        hostile = b"\x80\x04](" + value + b"e."
    data = LEGACY_START + b"".join({**programs, place: hostile}.values())
    path = tmp_path / "model.pth"
    path.write_bytes(data + struct.pack("<q", 6) + struct.pack("<6f", *range(6)))
    with pytest.raises(ModelFileError, match="truncated or damaged"):
        open_tensor_file(path)


def test_values_beside_the_tensors_may_be_anything(tmp_path: Path) -> None:
    """Only what is hashed, shown or used is checked: callbacks and hyperparameters hold all kinds of things."""
    beside = b"X\x01\x00\x00\x00a" + DEEP + b"X\x01\x00\x00\x00b" + DOUBLED + b"K\x05(K\x01K\x02t"
    long = b"X\x01\x00\x00\x00c\x8b" + struct.pack("<i", 9000) + b"\x7f" * 9000
    flat = b"(K\x01X\x01\x00\x00\x00xtK\x03"  # a flat tuple is a key as any other
    program = b"}(X\x0a\x00\x00\x00state_dict" + tensor() + beside + long + flat + b"u"
    file = open_tensor_file(zipped(tmp_path / "model.ckpt", program))
    assert list(file.tensors) == ["weight"]
    assert file.bookkeeping == {"c": "a whole number of thousands of digits"}


@pytest.mark.parametrize("name", ["bits16", "complex64", "quint8", "float8_e8m0fnu"])
def test_numbers_that_are_no_weights_are_not_read(tmp_path: Path, name: str) -> None:
    typed = tensor().replace(b"\x89}t", b"\x89}ctorch\n" + name.encode() + b"\nt").replace(b"_v2", b"_v3")
    file = open_tensor_file(zipped(tmp_path / "model.ckpt", typed))
    assert file.neutralised == (f"torch.{name}",)
