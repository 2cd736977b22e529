"""Options that the original programs have and our verbs do not. Does not import torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dreambooth.schema.verbs import GenerateSettings

__all__ = ["OriginalPictures"]


class OriginalPictures(GenerateSettings):
    """Generate images in the batches and file layout of stable_txt2img.py; the extra fields are named after its flags."""

    n_iter: Annotated[int, Field(ge=1, le=1_000_000)] = 2
    """How many times to generate the batch, or the whole prompt file."""

    n_rows: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Images per row of the grid; 0 means the batch size."""

    fixed_code: bool = False
    """Start every iteration from the same noise."""

    skip_save: bool = False
    """Do not write numbered images into the folder samples."""

    skip_grid: bool = False
    """Do not write a grid."""

    precision: Literal["autocast", "full"] = "autocast"
    """Half precision on a GPU (autocast) or full precision."""

    C: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Expected number of latent channels."""

    f: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Expected downsampling factor of the autoencoder."""
