"""Choosing a device and a precision, and what is said when they are not to be had."""

from __future__ import annotations

import re

import pytest
import torch

from dreambooth.errors import SettingsError
from dreambooth.runtime.device import choose_device, describe_device, peak_memory_bytes, release_memory
from dreambooth.runtime.precision import choose_precision

CPU = torch.device("cpu")


def test_a_named_device_is_taken() -> None:
    assert choose_device("cpu") == CPU
    assert re.fullmatch(r"cpu \(\d+ threads?\)", describe_device(CPU))
    assert peak_memory_bytes(CPU) > 2**20
    release_memory(CPU)


def test_what_is_no_device_is_refused() -> None:
    with pytest.raises(SettingsError, match="device is 'gpu': expected cpu, cuda, cuda:1 or mps"):
        choose_device("gpu")


def test_a_missing_device_is_refused_with_the_way_out() -> None:
    with pytest.raises(
        SettingsError, match=r"device is 'cuda:99': (no CUDA GPU was found|only \d+ CUDA GPUs? found)\nOmit --device"
    ):
        choose_device("cuda:99")


def test_a_mixed_precision_calculates_in_its_short_type_alone() -> None:
    policy = choose_precision("bf16-mixed", CPU)
    with policy.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == torch.bfloat16 == policy.compute_dtype
    with choose_precision("fp32", CPU).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_only_float16_needs_a_loss_scale() -> None:
    assert [choose_precision(name, CPU).needs_loss_scale for name in ("fp32", "bf16-mixed", "fp16-mixed")] == [
        False,
        False,
        True,
    ]
