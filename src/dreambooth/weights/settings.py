"""Settings of the base model. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from dreambooth.config import Settings

__all__ = ["BaseModelSettings", "ModelForm", "PlannedModelSettings", "WeightsChoice"]

WeightsChoice = Literal["auto", "ema", "raw"]
ModelForm = Literal["single-file", "diffusers"]


class BaseModelSettings(Settings):
    """Base model."""

    model: str
    """Base model: a .ckpt or .safetensors file, a diffusers folder, a run folder, a hub id (owner/name), or toybox."""

    config: Path | None = None
    """The model's YAML file in the format of the original code; it must match the tensors."""

    weights: WeightsChoice = "auto"
    """UNet weights to read when a file contains both: the moving average (ema), the last weights (raw), or the average
    unless it belongs to another model (auto)."""


class PlannedModelSettings(BaseModelSettings):
    """Base model."""

    model: str | None = None  # type: ignore[assignment]  # a plan may do without, and a run may not
    """Base model, in the same forms as for training; default: the sizes of a full Stable Diffusion 1."""

    @model_validator(mode="after")
    def _options_have_effect(self) -> PlannedModelSettings:
        if self.model is None and (useless := self.is_changed("config", "weights")):
            raise ValueError(f"no model is given, so {', '.join(useless)} would have no effect; give a model or omit them")
        return self
