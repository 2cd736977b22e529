"""Stable Diffusion XL as other programs describe it: the files of a diffusers folder, and the original program's YAML."""

from __future__ import annotations

from typing import Any

from dreambooth.diffusion.prediction import Prediction
from dreambooth.families import sd1_configs
from dreambooth.families.shapes import TextShape, UNetShape, VaeShape

__all__ = ["original_config", "pipeline_config", "scheduler_config", "text_2_config", "unet_config", "vae_config"]

_FOLDER_VERSION = "0.19.0"  # of diffusers, for this folder layout
_UNET = "model.params.network_config.params."
_VAE = "model.params.first_stage_config.params."
_AUTOENCODER = f"{_VAE}ddconfig."


def unet_config(shape: UNetShape, *, head_width: int, size_width: int, latent_side: int) -> dict[str, Any]:
    """The UNet in the form of diffusers' UNet2DConditionModel.

    Its `attention_head_dim` is the number of heads; diffusers keeps this name for old files. `size_width` is the width of the
    sinusoids of one number of the sizes.
    """
    config = {
        **sd1_configs.unet_config(shape, num_heads=0, latent_side=latent_side),
        "_diffusers_version": _FOLDER_VERSION,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": size_width,
        "attention_head_dim": [width // head_width for width in shape.widths],
        "projection_class_embeddings_input_dim": shape.vector_width,
        "transformer_layers_per_block": [max(1, depth) for depth in shape.depths],
        "use_linear_projection": shape.has_linear_projections,
    }
    return dict(sorted(config.items()))


def vae_config(shape: VaeShape, *, side: int, scaling_factor: float) -> dict[str, Any]:
    """The VAE in the form of diffusers' AutoencoderKL; it overflows in float16."""
    config = sd1_configs.vae_config(shape, side=side, scaling_factor=scaling_factor)
    return {**config, "_diffusers_version": _FOLDER_VERSION, "force_upcast": True}


def text_2_config(shape: TextShape, *, head_width: int) -> dict[str, Any]:
    """The second text encoder, OpenCLIP's, in the form of transformers' CLIPTextConfig."""
    return {
        **sd1_configs.text_config(shape, head_width=head_width),
        "architectures": ["CLIPTextModelWithProjection"],
        "hidden_act": "gelu",
        "pad_token_id": 0,
        "projection_dim": shape.projection_width,
    }


def scheduler_config(prediction: Prediction, *, has_zero_terminal_snr: bool) -> dict[str, Any]:
    """The schedule and the prediction as described in diffusers folders of Stable Diffusion XL."""
    return {
        "_class_name": "EulerDiscreteScheduler",
        "_diffusers_version": _FOLDER_VERSION,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "interpolation_type": "linear",
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon" if prediction == "epsilon" else "v_prediction",
        **({"rescale_betas_zero_snr": True} if has_zero_terminal_snr else {}),
        "steps_offset": 1,
        "timestep_spacing": "trailing" if has_zero_terminal_snr else "leading",
        "trained_betas": None,
        "use_karras_sigmas": False,
    }


def pipeline_config() -> dict[str, Any]:
    """The index of a diffusers folder."""
    return {
        "_class_name": "StableDiffusionXLPipeline",
        "_diffusers_version": _FOLDER_VERSION,
        "force_zeros_for_empty_prompt": True,
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def original_config(unet: UNetShape, vae: VaeShape, *, head_width: int, scaling_factor: float) -> dict[str, Any]:
    """The entries of the original program's YAML that follow from the tensors, as dotted keys and values."""
    return {
        "model.params.scale_factor": scaling_factor,
        f"{_UNET}adm_in_channels": unet.vector_width,
        f"{_UNET}in_channels": unet.in_channels,
        f"{_UNET}out_channels": unet.out_channels,
        f"{_UNET}model_channels": unet.widths[0],
        f"{_UNET}num_res_blocks": unet.num_layers,
        f"{_UNET}num_head_channels": head_width,
        f"{_UNET}context_dim": unet.context_width,
        f"{_UNET}use_linear_in_transformer": unet.has_linear_projections,
        f"{_UNET}transformer_depth": [max(1, depth) for depth in unet.depths],
        f"{_UNET}channel_mult": [width // unet.widths[0] for width in unet.widths],
        f"{_UNET}attention_resolutions": [2**level for level, depth in enumerate(unet.depths) if depth],
        f"{_VAE}embed_dim": vae.latent_channels,
        f"{_AUTOENCODER}double_z": True,
        f"{_AUTOENCODER}z_channels": vae.latent_channels,
        f"{_AUTOENCODER}in_channels": vae.pixel_channels,
        f"{_AUTOENCODER}out_ch": vae.pixel_channels,
        f"{_AUTOENCODER}ch": vae.widths[0],
        f"{_AUTOENCODER}num_res_blocks": vae.num_layers,
        f"{_AUTOENCODER}ch_mult": [width // vae.widths[0] for width in vae.widths],
    }
