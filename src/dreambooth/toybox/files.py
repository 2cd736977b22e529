"""Paths of the bundled weights."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CLIP_FILE", "EMBEDDED_MODEL", "EMBEDDED_MODEL_FILE", "EYE_FILE", "JUDGE_FILE"]

EMBEDDED_MODEL = "toybox"
"""The value of `--model` that selects the bundled model."""

_WEIGHTS = Path(__file__).parent / "weights"
EMBEDDED_MODEL_FILE = _WEIGHTS / "toybox.safetensors"
JUDGE_FILE = _WEIGHTS / "judge.safetensors"
CLIP_FILE = _WEIGHTS / "clip-pictures.safetensors"
"""The rest of the CLIP whose text encoder the model uses: image encoder, projections, attribute heads."""
EYE_FILE = _WEIGHTS / "eye.safetensors"
"""The small vision transformer whose features distinguish objects (`eye.py`)."""
