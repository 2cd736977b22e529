"""Safetensors files, and every way in which one can be damaged."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from dreambooth.errors import ModelFileError
from dreambooth.weights.containers import open_tensor_file


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2]).to(torch.bfloat16), "c": torch.tensor(7)}
    save_file(tensors, path, metadata={"format": "pt", "made by": "us"})
    return path


def test_tensors_and_metadata(path):
    file = open_tensor_file(path)
    assert (file.path, file.format, file.neutralised, file.bookkeeping) == (path, "safetensors", (), {})
    assert file.metadata == {"format": "pt", "made by": "us"}
    assert sorted(file.tensors) == ["a", "b", "c"]
    assert torch.equal(file.tensors["a"], torch.arange(6.0).reshape(2, 3))
    assert file.tensors["b"].dtype is torch.bfloat16 and file.tensors["b"].tolist() == [1, 2]
    assert file.tensors["c"].shape == () and int(file.tensors["c"]) == 7


def test_without_metadata(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "a.ckpt")
    file = open_tensor_file(tmp_path / "a.ckpt")  # the suffix does not matter
    assert file.format == "safetensors" and file.metadata == {}


def test_writing_into_a_tensor_leaves_the_file_alone(path):
    before = path.read_bytes()
    open_tensor_file(path).tensors["a"].zero_()
    assert path.read_bytes() == before


def test_truncated_in_the_tensors(path):
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    with pytest.raises(ModelFileError) as caught:
        open_tensor_file(path)
    expected = f"{path}: a truncated .safetensors file: {len(data) - 5:,} of the {len(data):,} bytes that its header declares"
    assert caught.value.problems == (expected,)
    assert caught.value.hint == "Download or copy the file again."
    assert isinstance(caught.value.__cause__, SafetensorError)


def test_truncated_in_the_header(path):
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(ModelFileError, match=r"a truncated .safetensors file: 30 of the"):
        open_tensor_file(path)


def damaged(header: object, data: bytes = b"\0" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        damaged(b"{not json}"),
        damaged(b'{"a":' + b"[" * 100_000),
        damaged({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}),  # size and shape disagree
        damaged({"a": {"dtype": "F32", "shape": [3], "data_offsets": [4, 8]}}),  # a hole
        damaged({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 9),  # something behind
        damaged({"a": {"dtype": "X99", "shape": [2], "data_offsets": [0, 8]}}),
        damaged({"a": "b"}),
        damaged({"a": {}}),
    ],
)
def test_a_wrong_header_becomes_our_error_with_its_cause(path, content):
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=f"a damaged .safetensors file of {len(content):,} bytes: ") as caught:
        open_tensor_file(path)
    assert isinstance(caught.value.__cause__, SafetensorError)


MEASURE = """
import re, sys
from pathlib import Path
from dreambooth.weights.containers import open_tensor_file

def mebibytes(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

before = mebibytes("VmRSS")
file = open_tensor_file(Path(sys.argv[1]))
float(file.tensors["3"].sum())
print(mebibytes("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_only_what_is_touched_costs_memory(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({str(number): torch.full((5 * 2**20,), float(number)) for number in range(6)}, path)  # 20 MiB each
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEASURE, str(path)]
    grown = float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
    assert 20 <= grown < 20 * 1.3 + 20  # MiB; 20 for what the interpreter itself takes meanwhile
