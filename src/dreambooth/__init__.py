"""DreamBooth for Stable Diffusion: teach a model a new subject from a few photos without forgetting the rest."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
