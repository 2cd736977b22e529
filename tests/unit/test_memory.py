"""The memory plan: what is recomputed to save memory changes no number."""

from __future__ import annotations

import pytest
import torch

from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.memory import MemoryPlan
from dreambooth.weights.random_weights import random_model


def test_activations_are_recomputed_on_a_gpu_and_kept_on_the_cpu_unless_told_otherwise() -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert MemoryPlan.choose(None, gpu) == MemoryPlan(gradient_checkpointing=True)
    assert MemoryPlan.choose(None, cpu) == MemoryPlan(gradient_checkpointing=False)
    assert MemoryPlan.choose(False, gpu) == MemoryPlan(gradient_checkpointing=False)
    assert MemoryPlan.choose(True, cpu) == MemoryPlan(gradient_checkpointing=True)


def gradients(family: StableDiffusion1, plan: MemoryPlan) -> tuple[float, dict[str, torch.Tensor], int]:
    """Loss and gradients of a forward and backward pass, and how often the first convolution was computed."""
    model = random_model(family, seed=0)
    components = model.build(dtype=torch.float32)
    modules = (components.unet, components.text_encoder)
    for module in modules:
        module.requires_grad_(True).train()
    plan.apply(modules)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    components.unet.down_blocks[0].resnets[0].conv1.register_forward_hook(count)
    text = model.family.encode_text(components.text_encoder, model.family.tokenize(components.tokenizer, ["a dog"]))
    x_t = torch.linspace(-1, 1, 4 * 8 * 8).reshape(1, 4, 8, 8)
    loss = model.family.predict_noise(components.unet, x_t, torch.tensor([300]), text).square().mean()
    loss.backward()
    named = {f"{type(module).__name__}.{name}": p.grad for module in modules for name, p in module.named_parameters()}
    return float(loss.detach()), {name: gradient for name, gradient in named.items() if gradient is not None}, calls


def test_recomputing_activations_gives_the_same_gradients(miniature: StableDiffusion1) -> None:
    loss, kept, calls = gradients(miniature, MemoryPlan(gradient_checkpointing=False))
    again, recomputed, more_calls = gradients(miniature, MemoryPlan(gradient_checkpointing=True))
    assert (calls, more_calls) == (1, 2)
    assert again == pytest.approx(loss, rel=1e-6)
    assert kept.keys() == recomputed.keys()
    assert any(name.startswith("CLIPTextModel") for name in kept)
    for name, gradient in kept.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-5, atol=1e-7, msg=name)
