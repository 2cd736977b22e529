"""The lists of tensors, against the modules that diffusers and transformers make."""

from __future__ import annotations

import math

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

from dreambooth.families.blueprints import text_blueprint, unet_blueprint, vae_blueprint
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.shapes import shapes_of


def shapes_in(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix("text_model."): shape for name, shape in shapes_of(module.state_dict()).items()}


def test_blueprints_are_what_the_libraries_build(family: StableDiffusion1) -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(family.unet_config)
        vae = AutoencoderKL.from_config(family.vae_config)
        text_encoder = CLIPTextModel(CLIPTextConfig.from_dict(family.text_config))
    assert unet_blueprint(family.unet) == shapes_in(unet)
    assert vae_blueprint(family.vae) == shapes_in(vae)
    assert text_blueprint(family.text) == shapes_in(text_encoder)


def test_the_real_model_has_its_published_size(full: StableDiffusion1) -> None:
    blueprints = unet_blueprint(full.unet), vae_blueprint(full.vae), text_blueprint(full.text)
    assert [len(blueprint) for blueprint in blueprints] == [686, 248, 196]
    num_parameters = [sum(math.prod(shape) for shape in blueprint.values()) for blueprint in blueprints]
    assert num_parameters == [859_520_964, 83_653_863, 123_060_480]
