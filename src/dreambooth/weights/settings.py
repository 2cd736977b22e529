"""Settings of the base model. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dreambooth.config import Settings

__all__ = ["BaseModelSettings", "WeightsChoice"]

WeightsChoice = Literal["ema", "raw"]


class BaseModelSettings(Settings):
    """Base model."""

    model: str
    """Base model: a .ckpt or .safetensors file, a diffusers folder, a run folder, a hub id (owner/name), or toybox."""

    config: Path | None = None
    """The model's YAML file in the format of the original code; it must match the tensors."""

    weights: WeightsChoice = "ema"
    """UNet weights to read when a file contains both: the moving average (ema) or the last weights (raw)."""
