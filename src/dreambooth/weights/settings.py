"""Which base model is used, and which of its weights. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dreambooth.config import Settings

__all__ = ["BaseModelSettings", "WeightsChoice"]

WeightsChoice = Literal["ema", "raw"]


class BaseModelSettings(Settings):
    """The base model."""

    model: str
    """Base model: a .ckpt or .safetensors file, a diffusers folder, a run folder, a hub id (owner/name), or toybox."""

    config: Path | None = None
    """The model's own YAML in the original configuration language; it must agree with the tensors."""

    weights: WeightsChoice = "ema"
    """Which UNet weights are read when a file holds both: their average (ema) or the last ones (raw)."""
