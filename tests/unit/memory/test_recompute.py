"""What is recomputed to save memory changes no number."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.untrained import untrained_unet
from dreambooth.memory.recompute import recompute_activations
from dreambooth.memory.settings import Checkpointing
from tests.random_weights import random_model


def gradients(family: StableDiffusion1, where: Checkpointing) -> tuple[float, dict[str, torch.Tensor], list[int]]:
    """Loss and gradients of a forward and backward pass, and how often the first, middle and last levels ran."""
    model = random_model(family, seed=0)
    components = model.build(dtype=torch.float32)
    modules = (components.denoiser, components.parts["text_encoder"])
    for module in modules:
        module.requires_grad_(True).train()
    recompute_activations(modules, where, inner_blocks=family.inner_blocks(components.denoiser))
    calls = [0, 0, 0]
    levels = (components.denoiser.down_blocks[0], components.denoiser.mid_block, components.denoiser.up_blocks[-1])
    for number, level in enumerate(levels):

        def count(*_: object, number: int = number) -> None:
            calls[number] += 1

        level.resnets[-1].conv1.register_forward_hook(count)
    text = model.family.encode_text(components.parts, model.family.tokenize(components.tokenizer, ["a dog"]))
    x_t = torch.linspace(-1, 1, 4 * 8 * 8).reshape(1, 4, 8, 8)
    loss = model.family.predict(components.denoiser, x_t, torch.tensor([300]), text).square().mean()
    loss.backward()
    named = {f"{type(module).__name__}.{name}": p.grad for module in modules for name, p in module.named_parameters()}
    return float(loss.detach()), {name: gradient for name, gradient in named.items() if gradient is not None}, calls


@pytest.mark.parametrize(("where", "calls"), [("outer", [2, 1, 2]), ("all", [2, 2, 2])])
def test_recomputing_activations_gives_the_same_gradients(
    miniature: StableDiffusion1, where: Checkpointing, calls: list[int]
) -> None:
    loss, kept, once = gradients(miniature, "off")
    again, recomputed, twice = gradients(miniature, where)
    assert (once, twice) == ([1, 1, 1], calls)
    assert again == pytest.approx(loss, rel=1e-6)
    assert kept.keys() == recomputed.keys()
    assert any(name.startswith("CLIPTextModel") for name in kept)
    for name, gradient in kept.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-5, atol=1e-7, msg=name)


def test_outer_leaves_the_inner_levels_of_a_deep_unet_alone(miniature: StableDiffusion1) -> None:
    deep = replace(miniature, unet=replace(miniature.unet, widths=(32, 32, 32, 32), depths=(1, 1, 1, 0)))
    unet = untrained_unet(deep, seed=0)
    recompute_activations([unet], "outer", inner_blocks=deep.inner_blocks(unet))
    assert [block.gradient_checkpointing for block in unet.down_blocks] == [True, True, False, False]
    assert [block.gradient_checkpointing for block in unet.up_blocks] == [False, False, True, True]
    assert not unet.mid_block.gradient_checkpointing
    assert unet.down_blocks[0].attentions[0].gradient_checkpointing
    assert not unet.down_blocks[2].attentions[0].gradient_checkpointing
