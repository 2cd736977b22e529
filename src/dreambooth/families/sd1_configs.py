"""Stable Diffusion 1 as other programs describe it: the files of a diffusers folder, and the original program's YAML."""

from __future__ import annotations

from typing import Any

from dreambooth.diffusion.prediction import Prediction
from dreambooth.families.shapes import TextShape, UNetShape, VaeShape

__all__ = ["original_config", "pipeline_config", "scheduler_config", "text_config", "unet_config", "vae_config"]

_FOLDER_VERSION = "0.9.0"  # of diffusers, for this folder layout; it assumes 512 pixels for UNets from older versions
_BETA_START, _BETA_END, _NUM_TIMESTEPS = 0.00085, 0.012, 1000
_UNET = "model.params.unet_config.params."
_VAE = "model.params.first_stage_config.params."
_AUTOENCODER = f"{_VAE}ddconfig."


def unet_config(shape: UNetShape, *, num_heads: int, latent_side: int) -> dict[str, Any]:
    """The UNet in the form of diffusers' UNet2DConditionModel.

    Its `attention_head_dim` is the number of heads; diffusers keeps this name for old files.
    """
    levels = [depth > 0 for depth in shape.depths]
    return {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": _FOLDER_VERSION,
        "act_fn": "silu",
        "attention_head_dim": num_heads,
        "block_out_channels": list(shape.widths),
        "center_input_sample": False,
        "cross_attention_dim": shape.context_width,
        "down_block_types": ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in levels],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": shape.in_channels,
        "layers_per_block": shape.num_layers,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": 32,
        "out_channels": shape.out_channels,
        "sample_size": latent_side,
        "up_block_types": ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(levels)],
    }


def vae_config(shape: VaeShape, *, side: int, scaling_factor: float) -> dict[str, Any]:
    """The VAE in the form of diffusers' AutoencoderKL."""
    num_levels = len(shape.widths)
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": _FOLDER_VERSION,
        "act_fn": "silu",
        "block_out_channels": list(shape.widths),
        "down_block_types": ["DownEncoderBlock2D"] * num_levels,
        "in_channels": shape.pixel_channels,
        "latent_channels": shape.latent_channels,
        "layers_per_block": shape.num_layers,
        "norm_num_groups": 32,
        "out_channels": shape.pixel_channels,
        "sample_size": side,
        "scaling_factor": scaling_factor,
        "up_block_types": ["UpDecoderBlock2D"] * num_levels,
    }


def text_config(shape: TextShape, *, head_width: int) -> dict[str, Any]:
    """The text encoder in the form of transformers' CLIPTextConfig."""
    return {
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "hidden_act": "quick_gelu",
        "hidden_size": shape.width,
        "intermediate_size": shape.inner_width,
        "layer_norm_eps": 1e-05,
        "model_type": "clip_text_model",
        "max_position_embeddings": shape.num_positions,
        "num_attention_heads": shape.width // head_width,
        "num_hidden_layers": shape.num_layers,
        "pad_token_id": 49407,
        "projection_dim": shape.width,
        "vocab_size": shape.vocabulary,
    }


def scheduler_config(prediction: Prediction, *, has_zero_terminal_snr: bool) -> dict[str, Any]:
    """The schedule and the prediction as described in diffusers folders.

    PLMS, which is usual there, divides by the signal; without any at the end of the schedule, DDIM takes its place.
    """
    common = {
        "_diffusers_version": _FOLDER_VERSION,
        "beta_end": _BETA_END,
        "beta_schedule": "scaled_linear",
        "beta_start": _BETA_START,
        "clip_sample": False,
        "num_train_timesteps": _NUM_TIMESTEPS,
        "prediction_type": "epsilon" if prediction == "epsilon" else "v_prediction",
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "trained_betas": None,
    }
    if has_zero_terminal_snr:
        own = {"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    else:
        own = {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "timestep_spacing": "leading"}
    return dict(sorted({**common, **own}.items()))


def pipeline_config(scheduler: str) -> dict[str, Any]:
    """The index of a diffusers folder."""
    return {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": _FOLDER_VERSION,
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def original_config(
    unet: UNetShape, vae: VaeShape, prediction: Prediction, *, num_heads: int, scaling_factor: float
) -> dict[str, Any]:
    """The entries of the original program's YAML that follow from the tensors, as dotted keys and values."""
    return {
        "model.params.linear_start": _BETA_START,
        "model.params.linear_end": _BETA_END,
        "model.params.timesteps": _NUM_TIMESTEPS,
        "model.params.scale_factor": scaling_factor,
        "model.params.parameterization": "eps" if prediction == "epsilon" else "v",
        "model.params.channels": vae.latent_channels,
        "model.params.conditioning_key": "crossattn",
        f"{_UNET}in_channels": unet.in_channels,
        f"{_UNET}out_channels": unet.out_channels,
        f"{_UNET}model_channels": unet.widths[0],
        f"{_UNET}num_res_blocks": unet.num_layers,
        f"{_UNET}num_heads": num_heads,
        f"{_UNET}num_head_channels": -1,  # the width follows from the number
        f"{_UNET}transformer_depth": unet.middle_depth,
        f"{_UNET}context_dim": unet.context_width,
        f"{_UNET}use_linear_in_transformer": unet.has_linear_projections,
        f"{_UNET}use_spatial_transformer": True,
        f"{_UNET}legacy": False,
        f"{_VAE}embed_dim": vae.latent_channels,
        f"{_AUTOENCODER}double_z": True,
        f"{_AUTOENCODER}z_channels": vae.latent_channels,
        f"{_AUTOENCODER}in_channels": vae.pixel_channels,
        f"{_AUTOENCODER}out_ch": vae.pixel_channels,
        f"{_AUTOENCODER}ch": vae.widths[0],
        f"{_AUTOENCODER}num_res_blocks": vae.num_layers,
        f"{_AUTOENCODER}attn_resolutions": [],
        f"{_UNET}channel_mult": _multiples(unet.widths),
        f"{_UNET}attention_resolutions": [2**level for level, depth in enumerate(unet.depths) if depth],
        f"{_AUTOENCODER}ch_mult": _multiples(vae.widths),
    }


def _multiples(widths: tuple[int, ...]) -> list[float]:
    return [width // widths[0] if width % widths[0] == 0 else width / widths[0] for width in widths]
