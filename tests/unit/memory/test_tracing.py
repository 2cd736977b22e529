"""The bytes that live are counted as an allocator counts them, with memory and without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

from dreambooth.families.family import Family
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.sdxl import StableDiffusionXL
from dreambooth.families.untrained import untrained_unet, without_memory
from dreambooth.memory.as_on_cuda import AsOnCuda
from dreambooth.memory.recompute import recompute_activations
from dreambooth.memory.settings import Checkpointing
from dreambooth.memory.tracing import ACTIVATIONS, LiveBytes, stored_bytes

KIB = 1024


def empty(count: int) -> Tensor:
    return torch.empty(count, device="meta")


def test_a_storage_counts_once_until_nobody_has_it() -> None:
    with LiveBytes() as live:
        first = empty(KIB)
        view = first[10:].view(2, -1)
        first.add_(1)
        assert live.current == {ACTIVATIONS: 4 * KIB}
        del first
        second = empty(KIB)
        assert live.current == {ACTIVATIONS: 8 * KIB}
        del view, second
        assert live.current == {ACTIVATIONS: 0}
    assert live.peak == 8 * KIB and live.fullest == {ACTIVATIONS: 8 * KIB}


def test_sizes_are_whole_blocks_of_the_allocator() -> None:
    with LiveBytes() as live:
        one, more = empty(1), empty(129)
    assert live.peak == 512 + 1024
    assert stored_bytes([one, one.view(1, 1), more]) == 512 + 1024


def test_what_was_there_before_counts_only_when_it_is_held() -> None:
    weight = torch.empty(8, 128, device="meta")
    with LiveBytes() as live:
        product = empty(8) @ weight
        assert live.current == {ACTIVATIONS: 512}
        live.hold("weights", [weight])
        live.hold("results", [product])
        assert live.current == {"weights": 4096, "results": 512, ACTIVATIONS: 0}


def test_the_fullest_moment_is_kept_by_kind() -> None:
    with LiveBytes() as live:
        kept = empty(KIB)
        live.hold("states", [kept])
        live.pass_by("scratch", 1000)
        del kept
        assert live.peak == 4 * KIB + 1000 and live.fullest == {"states": 4 * KIB, "scratch": 1000, ACTIVATIONS: 0}
        rest = empty(16)
    assert live.peak == 4 * KIB + 1000 and live.current == {"states": 0, ACTIVATIONS: rest.nbytes * 8}


def test_what_the_backward_pass_needs_lives_until_then() -> None:
    x = nn.Parameter(empty(KIB))
    with LiveBytes() as live:
        y = x.exp().exp().sum()
        assert live.current[ACTIVATIONS] == 8 * KIB + 512
        y.backward()
        assert x.grad is not None
        live.hold("gradients", [x.grad])
        assert live.current == {ACTIVATIONS: 512, "gradients": 4 * KIB}  # the sum


def largest_allocation(work: Callable[[], object]) -> int:
    """Most bytes that torch's CPU allocator had given out at once while `work` ran, as its own profiler says."""
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profiler:  # torch 2.11 warns without
        kept = work()
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    events, found = list(profiler.profiler.kineto_results.experimental_event_tree()), []
    while events:
        event = events.pop()
        events += event.children
        if event.tag == _EventType.Allocation:
            found.append((event.start_time_ns, event.extra_fields.alloc_size))
    total = peak = 0
    for _, size in sorted(found):
        total += size
        peak = max(peak, total)
    del kept
    return peak


def a_pass(unet: nn.Module, family: Family, device: str, cuda: AsOnCuda | None = None) -> Tensor:
    """Forward and backward pass over two latents; the loss."""
    x_t, text = torch.zeros(2, 4, 32, 32, device=device), family.empty_conditioning(2, torch.device(device))
    text = text if device == "meta" else text.map(torch.zeros_like)
    t_B = torch.zeros(2, dtype=torch.int64, device=device)
    if cuda is None:
        loss: Tensor = family.predict(unet, x_t, t_B, text).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
    else:
        with cuda:
            loss = family.predict(unet, x_t, t_B, text).square().mean()
        cuda.backward(loss)
    return loss


@pytest.fixture
def deeper_xl(miniature_xl: StableDiffusionXL) -> StableDiffusionXL:
    """Transformers prevail in it as they do in the real one; beside them, what the CPU's convolutions hide is small."""
    return replace(miniature_xl, unet=replace(miniature_xl.unet, widths=(64, 128), depths=(0, 2), middle_depth=2))


@pytest.mark.parametrize("where", ["off", "all"])
@pytest.mark.parametrize("name", ["miniature", pytest.param("deeper_xl", marks=pytest.mark.slow)])
def test_the_peak_of_a_unet_is_that_of_torchs_profiler(request: pytest.FixtureRequest, name: str, where: Checkpointing) -> None:
    miniature: Family = request.getfixturevalue(name)

    def prepared(unet: nn.Module) -> nn.Module:
        recompute_activations([unet], where, inner_blocks=miniature.inner_blocks(unet))
        return unet.requires_grad_(True).train()

    real = prepared(untrained_unet(miniature, seed=0))
    a_pass(real, miniature, "cpu")  # what the first pass alone needs
    real.zero_grad(set_to_none=True)
    measured = largest_allocation(lambda: a_pass(real, miniature, "cpu"))
    real.zero_grad(set_to_none=True)
    with LiveBytes(device_type="cpu", block=1) as live:
        a_pass(real, miniature, "cpu")
    assert live.peak == pytest.approx(measured, rel=0.01)

    empty_unet = prepared(without_memory(miniature).denoiser)
    with LiveBytes(block=1) as predicted:
        a_pass(empty_unet, miniature, "meta", AsOnCuda())
    assert predicted.peak == pytest.approx(measured, rel=0.01)


def test_recomputed_activations_do_not_count_in_the_forward_pass(miniature: StableDiffusion1) -> None:
    peaks = {}
    choices: tuple[Checkpointing, ...] = ("off", "outer", "all")
    for where in choices:
        unet = without_memory(miniature).denoiser.requires_grad_(True).train()
        recompute_activations([unet], where, inner_blocks=miniature.inner_blocks(unet))
        with LiveBytes() as live:
            a_pass(unet, miniature, "meta", AsOnCuda())
        gradients = stored_bytes(parameter.grad for parameter in unet.parameters() if parameter.grad is not None)
        assert live.current == {ACTIVATIONS: gradients}
        peaks[where] = live.peak
    assert peaks["all"] <= peaks["outer"] < 0.8 * peaks["off"]
