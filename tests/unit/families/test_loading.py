from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dreambooth.families.loading import build_module
from dreambooth.weights.containers import open_tensor_file

WIDTH, NUM_LAYERS = 1024, 24


def memory(field: str) -> int:
    """Bytes of this process: VmRSS is what is resident now, VmHWM the most since the mark was taken back."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def layers() -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(NUM_LAYERS)))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not give mapped pages back")
@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_peak_memory_is_below_1_3_times_the_wanted_weights(tmp_path: Path, stored: torch.dtype) -> None:
    path = tmp_path / "layers.safetensors"
    save_file({f"{index}.weight": torch.ones(WIDTH, WIDTH, dtype=stored) for index in range(NUM_LAYERS)}, path)
    wanted = NUM_LAYERS * WIDTH * WIDTH * 4
    tensors = open_tensor_file(path).tensors
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the highest mark is now what is resident
    before = memory("VmRSS")
    module = build_module(layers, tensors, buffers={}, dtype=torch.float32)
    assert memory("VmHWM") - before < 1.3 * wanted
    assert all(bool((parameter == 1).all()) for parameter in module.parameters())


def test_module_on_meta_is_given_real_memory_and_buffers() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 2)
            self.inner.register_buffer("count", torch.arange(2), persistent=False)

    weight, bias = torch.ones(2, 2).half().T, torch.zeros(2).half()
    module = build_module(
        Counting, {"inner.weight": weight, "inner.bias": bias}, buffers={"inner.count": torch.arange(2)}, dtype=torch.bfloat16
    )
    assert {parameter.dtype for parameter in module.parameters()} == {torch.bfloat16}
    assert all(parameter.is_contiguous() for parameter in module.parameters())
    assert module.inner.count.tolist() == [0, 1]
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_a_forgotten_buffer_is_noticed() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.arange(2), persistent=False)

    with pytest.raises(AssertionError, match=r"no memory was assigned to \['count'\]"):
        build_module(Counting, {}, buffers={}, dtype=torch.float32)
