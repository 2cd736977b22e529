"""Files whose weights are numbers only together with scales are refused; plain float8 is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.weights.read import read_model

Tensors = dict[str, Tensor]
Save = Callable[[Tensors], Path]
UNET = "model.diffusion_model."


def linear(checkpoint: Tensors) -> list[str]:
    return [name for name, tensor in checkpoint.items() if name.startswith(UNET) and tensor.ndim == 2]


@pytest.mark.parametrize("scale", ["scale_weight", "weight_scale", "scale_input", "weight_scale_inv", "input_scale"])
def test_scaled_float8(checkpoint: Tensors, save: Save, scale: str) -> None:
    for name in linear(checkpoint):
        checkpoint[name] = checkpoint[name].to(torch.float8_e4m3fn)
        checkpoint[name.removesuffix("weight") + scale] = torch.ones(1)
    path = save(checkpoint)
    with pytest.raises(ModelFileError, match=r"a quantized model, which cannot be used: \d+ tensors with scales") as caught:
        read_model(str(path))
    assert str(path) in str(caught.value)
    assert scale in str(caught.value)
    assert caught.value.hint is not None and "plain float8" in caught.value.hint


@pytest.mark.parametrize("marker", ["scaled_fp8", UNET + "scaled_fp8", UNET + "out.2.comfy_quant"])
def test_a_marker_alone(checkpoint: Tensors, save: Save, marker: str) -> None:
    checkpoint[marker] = torch.zeros(2)
    with pytest.raises(ModelFileError, match=f"1 tensor with scales of quantized weights .{marker}."):
        read_model(str(save(checkpoint)))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.bool])
@pytest.mark.parametrize("part", [UNET, "first_stage_model.", "cond_stage_model."])
def test_integers(checkpoint: Tensors, save: Save, dtype: torch.dtype, part: str) -> None:
    name = next(
        name
        for name, tensor in checkpoint.items()
        if name.startswith(part) and tensor.ndim in (2, 4) and tensor.is_floating_point()
    )
    checkpoint[name] = checkpoint[name].to(dtype)
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(ModelFileError, match=f"1 weight stored as {kind}, not as floating-point numbers .{name}."):
        read_model(str(save(checkpoint)))


def test_four_bits_of_bitsandbytes(checkpoint: Tensors, save: Save) -> None:
    """The matrices are packed, two numbers in a byte, and have other shapes."""
    for name in linear(checkpoint):
        checkpoint[name] = torch.zeros((checkpoint[name].numel() // 2, 1), dtype=torch.uint8)
        for companion in ("absmax", "quant_map", "quant_state.bitsandbytes__nf4"):
            checkpoint[f"{name}.{companion}"] = torch.zeros(4)
    with pytest.raises(ModelFileError) as caught:
        read_model(str(save(checkpoint)))
    assert [problem.partition("used: ")[2].partition(" (")[0].lstrip("0123456789 ") for problem in caught.value.problems] == [
        "weights stored as uint8, not as floating-point numbers",
        "tensors with scales of quantized weights",
    ]


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float64])
def test_plain_floats_are_read(checkpoint: Tensors, save: Save, dtype: torch.dtype) -> None:
    for name in linear(checkpoint):
        checkpoint[name] = checkpoint[name].to(dtype)
    checkpoint["logit_scale"] = torch.ones(())
    checkpoint["scale_factor"] = torch.ones(())
    report = read_model(str(save(checkpoint))).report
    assert str(dtype).removeprefix("torch.") in report.parts[0].dtypes
    assert report.leftover == ("logit_scale",)
