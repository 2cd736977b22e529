"""A model built as modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from dreambooth.families.family import Family

__all__ = ["Components"]


@dataclass(frozen=True)
class Components:
    """A model ready to use: its family, its modules by part name, and the tokenizer."""

    family: Family
    parts: Mapping[str, nn.Module]
    tokenizer: Any

    @property
    def denoiser(self) -> nn.Module:
        """The denoiser."""
        return self.parts[self.family.denoiser]

    @property
    def vae(self) -> nn.Module:
        """The autoencoder, between pixels and latents."""
        return self.parts[self.family.autoencoder]

    @property
    def text_encoders(self) -> tuple[nn.Module, ...]:
        """The text encoders."""
        return tuple(self.parts[name] for name in self.family.text_encoders)
