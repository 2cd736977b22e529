"""A VAE that is given apart from the model: a file of its own, a whole checkpoint, or a diffusers folder."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.families.vae_keys import (
    VAE_PREFIX,
    canonical_attention,
    canonical_vae_keys,
    original_attention,
    vae_keys,
    vae_layout,
)
from dreambooth.files import expanded
from dreambooth.weights.containers import open_tensor_file
from dreambooth.weights.diffusers_files import open_weights, weights_file
from dreambooth.weights.key_map import MappedPart, find_tensors
from dreambooth.weights.spelling import plain_names

__all__ = ["GIVE_VAE", "read_vae"]

GIVE_VAE = "Give the VAE of another model, or a file of a VAE, with --vae FILE."
"""The way out for a model without a VAE."""

_EXPECTED = "Give a .safetensors, .ckpt or .pt file of a VAE, a checkpoint that has one, or a diffusers folder."
_MODULES = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
_CANONICAL = ("encoder.down_blocks.", "decoder.up_blocks.", "encoder.mid_block.", "decoder.mid_block.")


def read_vae(path: Path) -> MappedPart:
    """The VAE at `path`, not checked yet; what else is there is ignored.

    Raises ModelFileError when there is nothing, or no VAE.
    """
    path = expanded(path)
    file = _file_in(path) if path.is_dir() else path
    opened = open_weights(file) if path.is_dir() else [open_tensor_file(file)]
    tensors, _ = plain_names({name: tensor for one in opened for name, tensor in one.tensors.items()})
    vae = {
        name.removeprefix(VAE_PREFIX): tensor
        for name, tensor in tensors.items()
        if name.removeprefix(VAE_PREFIX).startswith(_MODULES)
    }
    if not vae:
        raise ModelFileError(f"{path}: there is no VAE in this file", hint=_EXPECTED)
    if any(name.startswith(_CANONICAL) for name in vae):
        return find_tensors("VAE", file, vae, canonical_vae_keys(vae), spelling=canonical_attention)
    named: dict[str, Tensor] = {VAE_PREFIX + name: tensor for name, tensor in vae.items()}
    return find_tensors("VAE", file, named, vae_keys(vae_layout(named)), spelling=original_attention)


def _file_in(folder: Path) -> Path:
    """The weights in a diffusers folder, or in its folder `vae` given by itself."""
    for inner in (folder / "vae", folder):
        if (found := weights_file(inner, "vae")) is not None:
            return found
    raise ModelFileError(f"{folder}: there is no VAE in this folder (no vae/diffusion_pytorch_model.*)", hint=_EXPECTED)
