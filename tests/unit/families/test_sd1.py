from __future__ import annotations

import logging
import math
import warnings

import pytest
import torch
from torch import Tensor, nn
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.families.blueprints import text_blueprint, unet_blueprint, vae_blueprint
from dreambooth.families.components import Components
from dreambooth.families.quiet_import import quiet_import
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.shapes import Shape

START, END = 49406, 49407
PHOTO_OF_A_SKS_CONTAINER = [START, 1125, 539, 320, 48136, 14913, END]

Parts = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]


def random_tensors(blueprint: dict[str, Shape]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in blueprint.items()}


@pytest.fixture(scope="module")
def parts(small: StableDiffusion1) -> Parts:
    unet, vae, text = unet_blueprint(small.unet), vae_blueprint(small.vae), text_blueprint(small.text)
    return random_tensors(unet), random_tensors(vae), random_tensors(text)


def built(family: StableDiffusion1, parts: Parts, dtype: torch.dtype = torch.float32) -> Components:
    named = dict(zip(("unet", "vae", "text_encoder"), parts, strict=True))
    return Components(family, family.build(named, dtype=dtype), family.load_tokenizer())


@pytest.fixture(scope="module")
def components(small: StableDiffusion1, parts: Parts) -> Components:
    return built(small, parts)


def modules(components: Components) -> tuple[nn.Module, nn.Module, nn.Module]:
    return components.denoiser, components.vae, components.parts["text_encoder"]


def test_modules_are_for_evaluation_and_ask_for_no_gradients(components: Components) -> None:
    for module in modules(components):
        assert not any(part.training for part in module.modules())
        assert not any(parameter.requires_grad for parameter in module.parameters())


def test_modules_hold_copies_of_the_tensors(components: Components, small: StableDiffusion1, parts: Parts) -> None:
    for tensors, found in zip(parts, small.state_dicts(components.parts).values(), strict=True):
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
        assert all(found[name].data_ptr() != tensor.data_ptr() for name, tensor in tensors.items())


def test_modules_have_the_number_format_asked_for(small: StableDiffusion1, parts: Parts) -> None:
    for module in modules(built(small, parts, torch.bfloat16)):
        assert {parameter.dtype for parameter in module.parameters()} == {torch.bfloat16}


def test_position_ids_are_real(components: Components) -> None:
    buffers = components.parts["text_encoder"].named_buffers()
    (position_ids,) = (buffer for name, buffer in buffers if name.endswith("position_ids"))
    assert position_ids.dtype == torch.int64
    assert position_ids.tolist() == [list(range(77))]


def test_attention_has_eight_heads_at_every_level(components: Components) -> None:
    attentions = [module for name, module in components.denoiser.named_modules() if name.endswith(("attn1", "attn2"))]
    assert len(attentions) == 2 * 7  # the middle, one on the way down and two on the way up at two levels
    assert {attention.heads for attention in attentions} == {8}


def test_text_attention_heads_are_64_wide(components: Components) -> None:
    config = components.parts["text_encoder"].config
    assert config.hidden_size // config.num_attention_heads == 64
    assert config.hidden_act == "quick_gelu"


def test_normalisation_is_that_of_the_original(components: Components) -> None:
    def epsilons(module: nn.Module, kind: type[nn.GroupNorm] | type[nn.LayerNorm]) -> dict[float, set[str]]:
        found: dict[float, set[str]] = {}
        for name, part in module.named_modules():
            if isinstance(part, kind):
                found.setdefault(part.eps, set()).add(name.rpartition(".")[2])
        return found

    unet, vae, text_encoder = modules(components)
    assert epsilons(unet, nn.GroupNorm) == {1e-5: {"norm1", "norm2", "conv_norm_out"}, 1e-6: {"norm"}}
    assert epsilons(vae, nn.GroupNorm) == {1e-6: {"norm1", "norm2", "conv_norm_out", "group_norm"}}
    assert set(epsilons(unet, nn.LayerNorm)) == set(epsilons(text_encoder, nn.LayerNorm)) == {1e-5}
    groups = {part.num_groups for module in (unet, vae) for part in module.modules() if isinstance(part, nn.GroupNorm)}
    assert groups == {32}


def test_a_wrong_tensor_is_an_error_of_the_program(small: StableDiffusion1, parts: Parts) -> None:
    unet, vae, text = parts
    with pytest.raises(RuntimeError, match=r"conv_out\.bias"):
        built(small, ({name: tensor for name, tensor in unet.items() if name != "conv_out.bias"}, vae, text))


def test_captions_become_77_ids(components: Components, small: StableDiffusion1) -> None:
    ids = small.tokenize(components.tokenizer, ["photo of a sks container", "", "word " * 100])
    assert ids.shape == (3, 77)
    assert ids.dtype == torch.int64
    assert ids[0].tolist() == PHOTO_OF_A_SKS_CONTAINER + [END] * 70
    assert ids[1].tolist() == [START] + [END] * 76
    assert (ids[2, 0], ids[2, -1]) == (START, END)
    assert END not in ids[2, :-1]


def test_tokenizer_comes_from_the_package() -> None:
    tokenizer = StableDiffusion1.load_tokenizer()
    assert isinstance(tokenizer, CLIPTokenizer)
    assert tokenizer("photo of a sks container").input_ids == PHOTO_OF_A_SKS_CONTAINER


def test_gradients_reach_the_text_encoder(small: StableDiffusion1, parts: Parts) -> None:
    components = built(small, parts)
    components.parts["text_encoder"].requires_grad_(True)
    ids = small.tokenize(components.tokenizer, ["photo of a sks container"])
    states = small.encode_text(components.parts, ids).states_BLD
    assert states.shape == (1, 77, 128)
    states.square().sum().backward()
    assert all(parameter.grad is not None for parameter in components.parts["text_encoder"].parameters())


@torch.no_grad()
def test_pixels_to_latents_and_back_have_the_models_scale(components: Components, small: StableDiffusion1) -> None:
    assert small.downsampling == 4
    assert small.latent_channels == 4
    pixels = torch.rand((2, 3, 32, 48), generator=torch.Generator().manual_seed(0)) * 2 - 1
    moments = small.encode_pixels(components.vae, pixels)
    assert moments.mean.shape == moments.deviation.shape == (2, 4, 8, 12)
    assert small.decode_latents(components.vae, moments.mean).shape == pixels.shape


def test_latents_are_drawn_and_scaled(small: StableDiffusion1) -> None:
    moments = LatentMoments(torch.full((1, 4, 2, 2), 3.0), torch.full((1, 4, 2, 2), 2.0))
    drawn = small.sample_latents(moments, torch.full((1, 4, 2, 2), -0.5))
    assert torch.allclose(drawn, torch.tensor(0.18215 * 2))


@torch.no_grad()
@pytest.mark.parametrize(("log_variance", "deviation"), [(50.0, math.exp(10)), (-90.0, math.exp(-15))])
def test_log_variance_is_kept_in_range(small: StableDiffusion1, parts: Parts, log_variance: float, deviation: float) -> None:
    vae = dict(parts[1])
    vae["quant_conv.weight"] = torch.zeros_like(vae["quant_conv.weight"])
    vae["quant_conv.bias"] = torch.full_like(vae["quant_conv.bias"], log_variance)
    components = built(small, (parts[0], vae, parts[2]))
    moments = small.encode_pixels(components.vae, torch.zeros(1, 3, 16, 16))
    assert torch.allclose(moments.deviation, torch.tensor(deviation))


@torch.no_grad()
def test_noise_is_predicted_for_each_example(components: Components, small: StableDiffusion1) -> None:
    x_t = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    text = Conditioning(torch.randn((2, 77, 128), generator=torch.Generator().manual_seed(1)))
    t = torch.tensor([3, 900])
    both = small.predict(components.denoiser, x_t, t, text)
    alone = small.predict(components.denoiser, x_t[1:], t[1:], text.index(slice(1, 2)))
    assert both.shape == x_t.shape
    assert torch.allclose(both[1:], alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(both[:1], alone, rtol=1e-2)


def test_importing_the_libraries_is_quiet_and_leaves_logging_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    with quiet_import():
        warnings.warn("an optional neighbour is old", UserWarning, stacklevel=1)
        logging.getLogger("neighbour").warning("no binaries for this version")
    logging.getLogger("neighbour").warning("said later")
    assert caplog.messages == ["said later"]
