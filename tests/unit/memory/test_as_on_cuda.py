"""Without a device, mixed precision and attention leave the tensors behind that they leave on a CUDA device."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from dreambooth.memory.as_on_cuda import AsOnCuda
from dreambooth.memory.tracing import ACTIVATIONS, LiveBytes

BFLOAT16, FLOAT32 = torch.bfloat16, torch.float32


def empty(*shape: int, dtype: torch.dtype = FLOAT32) -> Tensor:
    return torch.empty(shape, device="meta", dtype=dtype, requires_grad=True)


def mixed(work: Callable[[], Tensor]) -> tuple[Tensor, list[tuple[torch.dtype, tuple[int, ...]]]]:
    """The result under mixed precision, and type and shape of every tensor that is kept for the backward pass."""
    kept: list[tuple[torch.dtype, tuple[int, ...]]] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append((tensor.dtype, tuple(tensor.shape)))
        return tensor

    with AsOnCuda(), torch.autocast("cpu", BFLOAT16), saved_tensors_hooks(keep, lambda tensor: tensor):
        return work(), kept


@pytest.mark.parametrize(
    ("module", "shape", "weight"),
    [(nn.Linear(8, 16), (2, 8), (8, 16)), (nn.Conv2d(8, 16, 3), (2, 8, 4, 4), (16, 8, 3, 3))],
    ids=["linear", "conv2d"],
)
def test_products_are_made_of_16_bits_and_keep_them(module: nn.Module, shape: tuple[int, ...], weight: tuple[int, ...]) -> None:
    module.to("meta")
    result, kept = mixed(lambda: module(empty(*shape)))
    assert result.dtype == BFLOAT16
    assert sorted(kept, key=str) == sorted([(BFLOAT16, shape), (BFLOAT16, weight)], key=str)


@pytest.mark.parametrize("module", [nn.GroupNorm(4, 8), nn.LayerNorm(8), nn.Softmax(-1)], ids=str)
def test_norms_are_made_of_float32_and_keep_it(module: nn.Module) -> None:
    module.to("meta")
    result, kept = mixed(lambda: module(empty(2, 8, dtype=BFLOAT16)))
    assert result.dtype == FLOAT32
    assert (FLOAT32, (2, 8)) in kept and {dtype for dtype, _ in kept} == {FLOAT32}


def test_the_rest_promotes_as_torch_does() -> None:
    assert mixed(lambda: nn.functional.silu(empty(2, dtype=BFLOAT16)))[0].dtype == BFLOAT16
    assert mixed(lambda: empty(2) + empty(2, dtype=BFLOAT16))[0].dtype == FLOAT32


def test_outside_of_mixed_precision_nothing_is_converted() -> None:
    with AsOnCuda():
        assert nn.Linear(8, 8, device="meta")(empty(1, 8)).dtype == FLOAT32


def test_copies_of_weights_live_until_the_end_of_the_forward_pass() -> None:
    layer, x = nn.Linear(64, 64, bias=False, device="meta"), empty(8, 64).detach()
    short = 64 * 64 * 2
    with LiveBytes() as live, AsOnCuda():
        with torch.autocast("cpu", BFLOAT16), torch.no_grad():
            layer(x)
            layer(x)
            assert live.current[ACTIVATIONS] == short  # though nothing refers to it
            assert live.peak < 1.5 * short  # one copy for both
        x.add(1)
        assert live.current[ACTIVATIONS] == 0
        layer.requires_grad_(False)
        with torch.autocast("cpu", BFLOAT16):
            layer(x)
            assert live.current[ACTIVATIONS] == 0  # copies of weights that do not learn are not kept


def test_what_is_recomputed_is_recomputed_in_mixed_precision() -> None:
    layers = nn.ModuleList(nn.Linear(64, 64, bias=False, device="meta") for _ in range(8))
    cuda, x = AsOnCuda(), empty(1, 64)
    with LiveBytes() as live:
        with cuda, torch.autocast("cpu", BFLOAT16):
            for layer in layers:
                x = checkpoint(layer, x, use_reentrant=False)
            assert live.current[ACTIVATIONS] >= 8 * 64 * 64 * 2
        with cuda:
            loss = x.float().sum()
        before = live.current[ACTIVATIONS]
        assert before < 8 * 64 * 64 * 2
        cuda.backward(loss)
        assert live.peak < 4 * (64 * 64 * 2) + 8 * (64 * 64 * 4)  # the copies of one layer at a time, and all gradients
    assert all(layer.weight.grad is not None and layer.weight.grad.dtype == FLOAT32 for layer in layers)


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16])
def test_attention_keeps_no_scores(dtype: torch.dtype) -> None:
    query, key, value = (empty(2, 4, 1024, 40, dtype=dtype) for _ in range(3))
    cuda = AsOnCuda()
    with LiveBytes() as live:
        with cuda:
            loss = scaled_dot_product_attention(query, key, value).sum()
        rows = 2 * 4 * 1024 * 4
        assert query.nbytes + rows <= live.peak < query.nbytes + rows + 4096
        cuda.backward(loss)
        assert live.peak < 6 * query.nbytes
    assert query.grad is not None and query.grad.shape == query.shape


def test_attention_that_nobody_learns_from_keeps_the_result_alone() -> None:
    query = empty(1, 1, 1024, 512)
    with LiveBytes() as live, AsOnCuda(), torch.no_grad():
        result = scaled_dot_product_attention(query, query, query)
    assert result.nbytes <= live.peak <= result.nbytes + 1024  # and the state of a generator
