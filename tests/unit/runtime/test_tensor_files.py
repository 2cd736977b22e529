"""The streaming writer against the safetensors library."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from dreambooth.runtime.tensor_files import write_tensors


def test_the_library_reads_back_every_type_bit_for_bit(tmp_path: Path) -> None:
    tensors = {
        "float32": torch.randn(3, 5),
        "transposed": torch.randn(3, 5).t(),
        "channels last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "half": torch.randn(7).half(),
        "brain": torch.randn(7).bfloat16(),
        "integers": torch.arange(77).unsqueeze(0),
        "flags": torch.tensor([True, False, True]),
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(3.5, dtype=torch.float64),
        "with gradient": torch.nn.Parameter(torch.randn(2, 2)),
    }
    write_tensors(tmp_path / "a.safetensors", tensors, metadata={"who": "we"})
    read = load_file(tmp_path / "a.safetensors")
    assert list(read) == sorted(tensors) or set(read) == set(tensors)
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor.detach()), name
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"who": "we"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_only_floating_tensors_are_converted(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", {"w": torch.tensor([1.0, 1e-3]), "ids": torch.arange(3)}, dtype=torch.float16)
    read = load_file(tmp_path / "a")
    assert read["w"].dtype == torch.float16
    assert torch.equal(read["w"], torch.tensor([1.0, 1e-3]).half())
    assert read["ids"].dtype == torch.int64


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", {"w": torch.ones(2)})
    with pytest.raises(KeyError):
        write_tensors(tmp_path / "a", {"w": torch.ones(2, dtype=torch.complex64)})
    assert torch.equal(load_file(tmp_path / "a")["w"], torch.ones(2))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_title_that_is_not_utf8_does_not_spoil_the_file(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.safetensors", {"one": torch.zeros(1)}, metadata={"modelspec.title": "r\udce9 狗"})
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"modelspec.title": "r? 狗"}
