from __future__ import annotations

from dataclasses import replace

import pytest

from dreambooth.errors import ModelFileError
from dreambooth.families.blueprints import text_blueprint, unet_blueprint, vae_blueprint
from dreambooth.families.recognition import SUPPORTED, foreign_kind, recognise
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.sd2 import StableDiffusion2
from dreambooth.families.shapes import Shape

Parts = tuple[dict[str, Shape], dict[str, Shape], dict[str, Shape]]


def blueprints(family: StableDiffusion1) -> Parts:
    return unet_blueprint(family.unet), vae_blueprint(family.vae), text_blueprint(family.text)


def test_every_number_is_read_from_names_and_shapes(family: StableDiffusion1) -> None:
    assert recognise(dict(zip(family.parts, blueprints(family), strict=True))) == family


def test_a_missing_or_damaged_tensor_does_not_hide_the_shape(small: StableDiffusion1) -> None:
    unet, vae, text = blueprints(small)
    del unet["down_blocks.1.resnets.0.conv1.weight"]
    unet["down_blocks.2.resnets.0.conv2.weight"] = (7, 7, 3, 3)
    unet["down_blocks.2.resnets.0.conv2.bias"] = (7,)
    unet["down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"] = (128, 9)
    del vae["encoder.down_blocks.0.resnets.0.norm2.weight"]
    text["encoder.layers.0.layer_norm1.bias"] = (5,)
    assert recognise({"unet": unet, "vae": vae, "text_encoder": text}) == small


def test_a_part_without_its_telling_tensors_is_named(small: StableDiffusion1) -> None:
    unet, vae, text = blueprints(small)
    del text["embeddings.token_embedding.weight"]
    with pytest.raises(ModelFileError, match=r"the text encoder has no tensor named embeddings\.token_embedding\.weight"):
        recognise({"unet": unet, "vae": vae, "text_encoder": text})


def refusal(family: StableDiffusion1) -> str:
    with pytest.raises(ModelFileError) as caught:
        recognise(dict(zip(family.parts, blueprints(family), strict=True)))
    assert caught.value.hint == SUPPORTED
    return "\n".join(caught.value.problems)


def test_linear_projections_are_stable_diffusion_2(small: StableDiffusion1) -> None:
    unet = replace(small.unet, has_linear_projections=True, widths=(64, 64, 128))
    family = StableDiffusion2(unet, small.vae, small.text)
    assert recognise(dict(zip(family.parts, blueprints(replace(small, unet=unet)), strict=True))) == family
    narrow = replace(unet, widths=(32, 64, 128))
    assert "a level of the UNet is 32 wide; the attention heads of Stable Diffusion 2 are 64 wide" in refusal(
        replace(small, unet=narrow)
    )


def test_size_embeddings_are_stable_diffusion_xl(small: StableDiffusion1) -> None:
    unet, vae, text = blueprints(small)
    unet["add_embedding.linear_1.weight"] = (256, 2816)
    with pytest.raises(ModelFileError, match="this is a Stable Diffusion XL model"):
        recognise({"unet": unet, "vae": vae, "text_encoder": text})


@pytest.mark.parametrize(
    ("channels", "kind"),
    [(9, "an inpainting model"), (8, "an instruction"), (5, "a depth-to-image model"), (6, "with additional inputs")],
)
def test_more_input_channels_are_another_kind_of_model(small: StableDiffusion1, channels: int, kind: str) -> None:
    found = refusal(replace(small, unet=replace(small.unet, in_channels=channels)))
    assert kind in found
    assert f"its UNet takes {channels} channels where text-to-image has 4" in found


def test_all_contradictions_are_told_at_once(small: StableDiffusion1) -> None:
    unet = replace(small.unet, context_width=96, depths=(0, 2, 1))
    vae = replace(small.vae, latent_channels=16, widths=(48, 96, 96))
    text = replace(small.text, width=80)
    assert refusal(StableDiffusion1(unet, vae, text)).splitlines() == [
        "the UNet expects text states 96 wide and the text encoder makes 80",
        "the UNet takes 4 latent channels and the VAE makes 16",
        "the UNet's attention is 2 transformer blocks deep; Stable Diffusion 1 has one everywhere",
        "the text encoder is 80 wide; CLIP's attention heads are 64 wide and do not divide it",
        "a level of the VAE is 48 wide, which is not divisible by the 32 groups of its normalization",
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", "a LoRA"),
        ("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.lora_A.weight", "a LoRA"),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.hada_w1_a", "a LoRA"),
        ("emb_params", "a textual-inversion embedding"),
        ("control_model.input_blocks.0.0.weight", "a ControlNet"),
        ("controlnet_cond_embedding.conv_in.weight", "a ControlNet"),
        ("conditioner.embedders.0.model.ln_final.weight", "the Stable Diffusion XL refiner"),
        ("noise_augmentor.time_embed.weight", "a Stable Diffusion 2.1 unCLIP checkpoint"),
        ("embedder.model.visual.class_embedding", "a Stable Diffusion 2.1 unCLIP checkpoint"),
        ("depth_model.model.scratch.layer1_rn.weight", "a Stable Diffusion 2 depth checkpoint"),
        ("low_scale_model.betas", "a Stable Diffusion upscaler"),
        ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "a diffusion transformer"),
        ("double_blocks.0.img_attn.qkv.weight", "a diffusion transformer"),
        ("down_blocks.0.resnets.0.conv1.weight", "a bare UNet"),
        ("input_blocks.0.0.weight", "a bare UNet"),
        ("first_stage_model.encoder.conv_in.weight", "a bare VAE"),
        ("decoder.mid_block.attentions.0.to_q.weight", "a bare VAE"),
        ("encoder.mid.attn_1.q.weight", "a bare VAE"),
        ("text_model.embeddings.token_embedding.weight", "a bare text encoder"),
        ("cond_stage_model.transformer.text_model.embeddings.token_embedding.weight", "a bare text encoder"),
        ("model_ema.diffusion_modelout2bias", "a file with only averaged weights"),
        ("layer4.2.conv3.weight", "belong to no model known here"),
    ],
)
def test_other_kinds_of_files_are_named(name: str, kind: str) -> None:
    found = foreign_kind([name])
    assert found is not None
    assert kind in found


def test_stable_diffusion_1_is_not_foreign() -> None:
    names = ["model.diffusion_model.out.2.bias", "first_stage_model.encoder.conv_in.weight", "logvar"]
    assert foreign_kind(names) is None
