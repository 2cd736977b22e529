from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.families.blueprints import text_blueprint, unet_blueprint, vae_blueprint
from dreambooth.families.components import Components
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.shapes import shapes_of
from dreambooth.families.untrained import untrained_clip, untrained_unet, untrained_vae, untrained_vit, without_memory

VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}

Make = Callable[[StableDiffusion1, int], nn.Module]

MAKERS: dict[str, Make] = {
    "unet": lambda family, seed: untrained_unet(family, seed=seed),
    "vae": lambda family, seed: untrained_vae(family, seed=seed),
    "clip": lambda family, seed: untrained_clip(family, vision=VISION, projection=24, seed=seed),
    "vit": lambda family, seed: untrained_vit(VISION, seed=seed),
}


@pytest.mark.parametrize("name", MAKERS)
def test_weights_depend_on_the_seed_alone(miniature: StableDiffusion1, name: str) -> None:
    before = torch.random.get_rng_state()
    one = MAKERS[name](miniature, 1).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)  # torch's own generator is where it was
    torch.rand(3)
    same, other = MAKERS[name](miniature, 1).state_dict(), MAKERS[name](miniature, 2).state_dict()
    assert all(torch.equal(tensor, same[key]) for key, tensor in one.items())
    assert any(not torch.equal(tensor, other[key]) for key, tensor in one.items())
    assert all(tensor.isfinite().all() for tensor in one.values())


@pytest.mark.parametrize("name", MAKERS)
def test_models_are_there_to_be_trained(miniature: StableDiffusion1, name: str) -> None:
    assert all(p.requires_grad and p.dtype == torch.float32 for p in MAKERS[name](miniature, 1).parameters())


def test_models_have_the_family_s_tensors_and_can_be_built_from_them(miniature: StableDiffusion1) -> None:
    clip: Any = untrained_clip(miniature, vision=VISION, projection=24, seed=3)
    unet: Any = untrained_unet(miniature, seed=1)
    vae: Any = untrained_vae(miniature, seed=2)
    made = Components(miniature, {"unet": unet, "vae": vae, "text_encoder": clip.text_model.eval()}, miniature.load_tokenizer())
    parts = miniature.state_dicts(made.parts)
    blueprints = unet_blueprint(miniature.unet), vae_blueprint(miniature.vae), text_blueprint(miniature.text)
    assert tuple(shapes_of(part) for part in parts.values()) == blueprints

    built = Components(miniature, miniature.build(parts, dtype=torch.float32), miniature.load_tokenizer())
    ids = miniature.tokenize(built.tokenizer, ["photo of a red mug"])
    pixels = torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
    with torch.no_grad():
        states = [miniature.encode_text(components.parts, ids).states_BLD for components in (made, built)]
        means = [miniature.encode_pixels(components.vae, pixels).mean for components in (made, built)]
        noises = [
            miniature.predict(components.denoiser, torch.ones(1, 4, 8, 8), torch.tensor([500]), Conditioning(states[0]))
            for components in (made, built)
        ]
    for from_made, from_built in (states, means, noises):
        torch.testing.assert_close(from_built, from_made, rtol=1e-5, atol=1e-6)


def test_a_clip_has_the_towers_asked_for(miniature: StableDiffusion1) -> None:
    clip: Any = untrained_clip(miniature, vision=VISION, projection=24, seed=3)
    assert (clip.config.vision_config.hidden_size, clip.config.vision_config.num_hidden_layers) == (32, 2)
    ids = torch.tensor([[49406, 320, 49407, 49407], [49406, 539, 320, 49407]])
    with torch.no_grad():
        outputs = clip(input_ids=ids, pixel_values=torch.zeros(2, 3, 16, 16))
    for embeds in (outputs.image_embeds, outputs.text_embeds):
        assert embeds.shape == (2, 24)
        torch.testing.assert_close(embeds.norm(dim=1), torch.ones(2))
    # What is projected is the state of the first end.
    with torch.no_grad():
        states = clip.text_model(ids).last_hidden_state
        pooled = clip.text_projection(states[torch.arange(2), torch.tensor([2, 3])])
    torch.testing.assert_close(outputs.text_embeds, pooled / pooled.norm(dim=1, keepdim=True))


def test_a_vision_transformer_is_that_of_its_configuration_without_a_pooler() -> None:
    vit: Any = untrained_vit(VISION, seed=3)
    with torch.no_grad():
        outputs = vit(pixel_values=torch.zeros(2, 3, 16, 16))
    assert outputs.last_hidden_state.shape == (2, 1 + 4, 32)  # the first token, and one for each patch
    assert outputs.pooler_output is None
    assert len(vit.layers) == 2


def test_a_model_without_memory_has_every_tensor_and_no_numbers(miniature: StableDiffusion1) -> None:
    components = without_memory(miniature)
    blueprints = (unet_blueprint(miniature.unet), vae_blueprint(miniature.vae), text_blueprint(miniature.text))
    for blueprint, tensors in zip(blueprints, StableDiffusion1.state_dicts(components.parts).values(), strict=True):
        assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == blueprint
        assert all(tensor.is_meta for tensor in tensors.values())
    modules = (components.denoiser, components.vae, components.parts["text_encoder"])
    assert not any(module.training or parameter.requires_grad for module in modules for parameter in module.parameters())
