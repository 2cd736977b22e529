"""Compiling changes no number, and touches what it says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.runtime.compilation import compile_modules, describe_compilation
from tests.random_weights import random_model


def output(family: StableDiffusion1, how: Any) -> tuple[torch.Tensor, int, list[str]]:
    """What the UNet gives, how many functions were compiled for it, and the names of its weights."""
    unet = random_model(family, seed=0).build(dtype=torch.float32).denoiser
    compiled = 0

    def count(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Any:
        nonlocal compiled
        compiled += 1
        return graph.forward

    compile_modules([unet], how, backend=count)
    x_t = torch.linspace(-1, 1, 4 * 8 * 8).reshape(1, 4, 8, 8)
    with torch.no_grad():
        eps = family.predict(unet, x_t, torch.tensor([300]), Conditioning(torch.zeros(1, 77, family.text.width)))
    return eps, compiled, list(unet.state_dict())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's compiler about itself
def test_compiled_layers_give_the_same_numbers_under_the_same_names(miniature: StableDiffusion1) -> None:
    eps, num_compiled, names = output(miniature, "off")
    assert num_compiled == 0
    torch._dynamo.reset()
    for how in ("blocks", "full"):
        again, num_compiled, same_names = output(miniature, how)
        torch._dynamo.reset()
        torch.testing.assert_close(again, eps, rtol=1e-5, atol=1e-6)
        assert num_compiled > (1 if how == "blocks" else 0)
        assert same_names == names
    assert output(miniature, "auto")[1] == 0


def test_every_choice_is_told_in_words() -> None:
    told = [describe_compilation(how) for how in ("auto", "off", "blocks", "full")]
    assert len(set(told)) == 4
    assert "not measured" in told[0]
