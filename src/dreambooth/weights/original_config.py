"""The YAML of the original program beside a checkpoint: accepted, held against the tensors, never needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dreambooth.config import read_yaml
from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.families.components import Family

__all__ = ["check_original_config", "contradictions", "flat_entries"]

_UNET = "model.params.unet_config.params."
_VAE = "model.params.first_stage_config.params."
_AUTOENCODER = f"{_VAE}ddconfig."
_TEXT = "model.params.cond_stage_config.target"


def check_original_config(path: Path, family: Family) -> None:
    """Raise ModelFileError that lists every entry of the YAML at `path` that the model's tensors contradict.

    Entries that are left out are not missed: the original program had defaults for them.
    """
    try:
        entries = dict(flat_entries(read_yaml(path)))
    except SettingsError as error:
        raise ModelFileError(
            error.problems, hint="Give the YAML that belongs to the checkpoint, or leave out --config."
        ) from error
    if not any(name in entries for name in _expected(family)):
        raise ModelFileError(
            f"{path}: not in the original configuration language (no {_UNET[:-1]})", hint="Leave out --config."
        )
    if problems := contradictions(entries, family):
        hint = "Give the YAML that belongs to the checkpoint, or leave out --config."
        raise ModelFileError([f"{path}: {problem}" for problem in problems], hint=hint)


def contradictions(entries: Mapping[str, Any], family: Family) -> list[str]:
    """A sentence for every entry (dotted key to value) that the model's tensors contradict."""
    problems = [
        f"{name} is {entries[name]!r}; this model calls for {value!r}"
        for name, value in _expected(family).items()
        if name in entries and _ordered(entries[name], name) != value
    ]
    if "OpenCLIP" in str(entries.get(_TEXT)):
        problems.append(f"{_TEXT} is {entries[_TEXT]!r}; the model's text encoder is CLIP's")
    return problems


def flat_entries(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every entry of a tree of mappings as (dotted key, value); lists are values."""
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from flat_entries(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _expected(family: Family) -> dict[str, Any]:
    unet, vae, schedule = family.unet, family.vae, family.schedule
    return {
        "model.params.linear_start": float(f"{schedule.beta_T[0]:.6g}"),
        "model.params.linear_end": float(f"{schedule.beta_T[-1]:.6g}"),
        "model.params.timesteps": schedule.num_timesteps,
        "model.params.scale_factor": family.scaling_factor,
        "model.params.parameterization": "eps",
        "model.params.channels": vae.latent_channels,
        "model.params.conditioning_key": "crossattn",
        f"{_UNET}in_channels": unet.in_channels,
        f"{_UNET}out_channels": unet.out_channels,
        f"{_UNET}model_channels": unet.widths[0],
        f"{_UNET}num_res_blocks": unet.num_layers,
        f"{_UNET}num_heads": family.num_heads,
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


def _ordered(value: Any, name: str) -> Any:
    """Resolutions are a set in the original program; its files write them in any order."""
    return sorted(value) if name.endswith("attention_resolutions") and isinstance(value, list) else value
