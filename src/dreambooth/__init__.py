"""DreamBooth for Stable Diffusion: teach a model one subject from a few photos and keep the rest of it as it was."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
