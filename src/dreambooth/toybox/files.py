"""Where the weights that ship with the package are."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CLIP_FILE", "EMBEDDED_MODEL", "EMBEDDED_MODEL_FILE", "EYE_FILE", "JUDGE_FILE"]

EMBEDDED_MODEL = "toybox"
"""What `--model` is told to use the embedded base model."""

_WEIGHTS = Path(__file__).parent / "weights"
EMBEDDED_MODEL_FILE = _WEIGHTS / "toybox.safetensors"
JUDGE_FILE = _WEIGHTS / "judge.safetensors"
CLIP_FILE = _WEIGHTS / "clip-pictures.safetensors"
"""What the CLIP that gave the model its text encoder has beyond it: picture tower, projections, attribute heads."""
EYE_FILE = _WEIGHTS / "eye.safetensors"
"""The small vision transformer whose features tell one object from another (`eye.py`), by the names of its parameters."""
