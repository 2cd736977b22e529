"""Stable Diffusion XL: its shapes, its names, and the other models of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from dreambooth.errors import ModelFileError
from dreambooth.families import tiles
from dreambooth.families.family import Family
from dreambooth.families.full_size import full_size_stable_diffusion_xl
from dreambooth.families.open_clip_keys import LOGIT_SCALE
from dreambooth.families.recognition import recognise
from dreambooth.families.sdxl import StableDiffusionXL
from dreambooth.families.shapes import Shape, UNetShape, VaeShape, shapes_of
from dreambooth.families.text_keys import TEXT_LEVEL
from dreambooth.families.untrained import without_memory
from dreambooth.families.zero_padding import zero_padded

FULL = full_size_stable_diffusion_xl()


def shapes(family: Family) -> dict[str, Mapping[str, Shape]]:
    return {name: part.blueprint for name, part in family.parts.items()}


@pytest.fixture(params=["full size", "miniature"])
def family(request: pytest.FixtureRequest, miniature_xl: StableDiffusionXL) -> StableDiffusionXL:
    return FULL if request.param == "full size" else miniature_xl


def test_blueprints_are_the_modules_of_the_libraries(miniature_xl: StableDiffusionXL) -> None:
    built = miniature_xl.state_dicts(without_memory(miniature_xl).parts)
    assert {name: shapes_of(tensors) for name, tensors in built.items()} == shapes(miniature_xl)


def test_every_tensor_has_a_name_in_the_original_file(family: StableDiffusionXL) -> None:
    for part in family.parts.values():
        assert {*part.blueprint, *part.unused} <= {pair.canonical for pair in part.keys}


def test_the_published_model_has_the_published_number_of_parameters() -> None:
    counts = {name: sum(torch.Size(shape).numel() for shape in part.values()) for name, part in shapes(FULL).items()}
    assert counts == {"unet": 2_567_463_684, "vae": 83_653_863, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840}
    assert FULL.unet_config["attention_head_dim"] == [5, 10, 20]
    assert FULL.unet_config["transformer_layers_per_block"] == [1, 2, 10]


def test_it_is_recognised_by_its_tensors(family: StableDiffusionXL) -> None:
    assert recognise(shapes(family)) == family


def test_a_folder_names_the_second_encoders_projection_without_the_level() -> None:
    part = FULL.parts["text_encoder_2"]
    assert part.folder_name("final_layer_norm.bias") == f"{TEXT_LEVEL}final_layer_norm.bias"
    assert part.folder_name("text_projection.weight") == "text_projection.weight"
    assert part.unused == {LOGIT_SCALE: ()}


def refusal(family: StableDiffusionXL) -> str:
    with pytest.raises(ModelFileError) as caught:
        recognise(shapes(family))
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize(
    ("unet", "kind"),
    [
        (replace(FULL.unet, in_channels=9), "an inpainting model"),
        (replace(FULL.unet, in_channels=8), "an instruction"),
        (
            replace(FULL.unet, widths=(384, 768, 1536, 1536), depths=(0, 4, 4, 0), middle_depth=4),
            "the Stable Diffusion XL refiner",
        ),
        (replace(FULL.unet, depths=(0, 2, 4), middle_depth=4), "SSD-1B"),
        (replace(FULL.unet, depths=(0, 1, 2), middle_depth=2), "Segmind-Vega"),
    ],
)
def test_other_models_of_its_kind_are_named_with_the_base(unet: UNetShape, kind: str) -> None:
    found = refusal(replace(FULL, unet=unet))
    assert kind in found
    assert "stabilityai/stable-diffusion-xl-base-1.0" in found


def test_all_contradictions_are_told_at_once(miniature_xl: StableDiffusionXL) -> None:
    unet = replace(miniature_xl.unet, context_width=100, vector_width=1700, middle_depth=3)
    vae = VaeShape(3, 16, (32, 48, 64), 1)
    assert refusal(replace(miniature_xl, unet=unet, vae=vae)).splitlines() == [
        "the UNet expects text states 100 wide and the text encoders make 64 + 128",
        "the UNet takes a vector of 1700, where the pooled text and the sizes are 128 + 1536",
        "the middle of the UNet is 3 transformer blocks deep and its last level 1",
        "the UNet takes 4 latent channels and the VAE makes 16",
        "a level of the VAE is 48 wide, which is not divisible by the 32 groups of its normalization",
    ]


def test_a_missing_text_encoder_is_named() -> None:
    parts = {name: part for name, part in shapes(FULL).items() if name != "text_encoder_2"}
    with pytest.raises(ModelFileError, match="a Stable Diffusion XL model without its text_encoder_2"):
        recognise(parts)


def test_only_what_follows_the_first_end_token_pads() -> None:
    ids = torch.tensor([[49406, 320, 49407, 49407, 49407], [49406, 49407, 49407, 49407, 49407], [49406, 5, 6, 7, 49407]])
    assert zero_padded(ids).tolist() == [[49406, 320, 49407, 0, 0], [49406, 49407, 0, 0, 0], [49406, 5, 6, 7, 49407]]


def test_the_memory_of_a_prediction_is_traced_with_what_it_needs(miniature_xl: StableDiffusionXL) -> None:
    components = without_memory(miniature_xl)
    device = torch.device("meta")
    encoded = miniature_xl.encode_text(components.parts, miniature_xl.empty_ids(2, device))
    empty = miniature_xl.empty_conditioning(2, device)
    assert encoded.pooled_BD is not None and empty.pooled_BD is not None and empty.sizes_B6 is not None
    assert encoded.states_BLD.shape == empty.states_BLD.shape
    assert encoded.pooled_BD.shape == empty.pooled_BD.shape
    x_t = torch.empty(2, 4, 8, 12, device=device)
    assert miniature_xl.predict(components.denoiser, x_t, torch.empty(2, device=device), empty).shape == x_t.shape


def test_large_images_pass_the_autoencoder_in_tiles(miniature_xl: StableDiffusionXL, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole up to one and a half megapixels; beyond it, tiles of 1024 pixels, whatever the size of the model's images."""
    assert tiles.LARGEST_WHOLE == 1024 * 1536
    torch.manual_seed(0)
    vae = miniature_xl.new_module("vae").eval()
    calls: list[torch.Size] = []
    encoder = vae.get_submodule("encoder")
    encoder.register_forward_hook(lambda module, inputs, output: calls.append(inputs[0].shape))
    monkeypatch.setattr(tiles, "LARGEST_WHOLE", 64 * 64)
    monkeypatch.setattr(tiles, "TILE", 32)
    with torch.no_grad():
        for height, width, num_calls in ((64, 64, 1), (64, 80, 12)):
            calls.clear()
            moments = miniature_xl.encode_pixels(vae, torch.randn(1, 3, height, width))
            assert moments.mean.shape == (1, 4, height // 4, width // 4)
            assert len(calls) == num_calls
            assert miniature_xl.decode_latents(vae, moments.mean).shape == (1, 3, height, width)
    assert vae.use_tiling is False  # as before
