"""Settings of the base model. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dreambooth.config import Settings, Text

__all__ = [
    "BaseModelSettings",
    "LoraSettings",
    "ModelForm",
    "PlannedModelSettings",
    "PredictionChoice",
    "StrengthSettings",
    "WeightsChoice",
]

WeightsChoice = Literal["auto", "ema", "raw"]
ModelForm = Literal["single-file", "diffusers"]
PredictionChoice = Literal["auto", "epsilon", "velocity"]


class BaseModelSettings(Settings):
    """Base model."""

    model: Annotated[str, Field(min_length=1)]
    """Base model: a .ckpt or .safetensors file, a diffusers folder, a run folder, a hub id (owner/name), or toybox."""

    config: Path | None = None
    """The model's YAML file in the format of the original code; it must match the tensors."""

    weights: WeightsChoice = "auto"
    """UNet weights to read when a file contains both: the moving average (ema), the last weights (raw), or the average
    unless it belongs to another model (auto)."""

    vae: Path | None = None
    """VAE to use instead of the model's own: a .safetensors, .ckpt or .pt file, or a diffusers folder."""

    prediction: PredictionChoice = "auto"
    """What the model predicts: the noise (epsilon), the velocity (v-prediction), or what its files state (auto)."""

    zero_terminal_snr: bool | None = None
    """The noise schedule ends without signal (arXiv 2305.08891; only for velocity); default: as the model's files state."""


class StrengthSettings(Settings):
    """How much of the training is used."""

    strength: Annotated[float, Field(ge=0, le=2)] = 1.0
    """How much of the training to use: 1 all of it, 0.8 less, 0 the base model; above 1 exaggerates what was learned."""

    base: Annotated[str, Field(min_length=1)] | None = None
    """With --strength: the model that was trained from, in the same forms; default: the run's own base model."""

    @model_validator(mode="after")
    def _options_have_effect(self) -> StrengthSettings:
        if self.strength == 1 and self.base is not None:
            raise ValueError("base would have no effect with strength 1; omit it or give another strength")
        return self


class LoraSettings(Settings):
    """LoRA files to apply."""

    lora: tuple[Text, ...] = ()
    """LoRA files to apply to the model, each FILE or FILE:STRENGTH (1 is as trained), or run folders that trained one."""


class PlannedModelSettings(BaseModelSettings):
    """Base model."""

    model: Annotated[str, Field(min_length=1)] | None = None  # type: ignore[assignment]  # a plan may do without, and a run may not
    """Base model, in the same forms as for training; default: the sizes of a full Stable Diffusion 1."""

    @model_validator(mode="after")
    def _options_have_effect(self) -> PlannedModelSettings:
        if self.model is None and (useless := self.is_changed("config", "weights", "vae", "prediction", "zero_terminal_snr")):
            raise ValueError(f"no model is given, so {', '.join(useless)} would have no effect; give a model or omit them")
        return self
