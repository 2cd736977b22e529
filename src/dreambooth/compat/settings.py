"""What the original programs could be asked for and the verbs of this one cannot. Loads no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dreambooth.schema.verbs import GenerateSettings

__all__ = ["OriginalPictures"]


class OriginalPictures(GenerateSettings):
    """Make pictures in the batches, and with the files, of stable_txt2img.py; its own fields have the names of its flags."""

    n_iter: Annotated[int, Field(ge=1)] = 2
    """How often the batch, or the whole file of prompts, is made."""

    n_rows: Annotated[int, Field(ge=0)] = 0
    """Pictures in a row of the grid; as many as in a batch when 0."""

    fixed_code: bool = False
    """Let every iteration start from the same noise."""

    skip_save: bool = False
    """Keep no pictures by number in the folder samples."""

    skip_grid: bool = False
    """Write no grid."""

    precision: Literal["autocast", "full"] = "autocast"
    """Half precision on a GPU (autocast), or full precision."""

    C: Annotated[int, Field(ge=1)] | None = None
    """Channels that the model's latents are expected to have."""

    f: Annotated[int, Field(ge=1)] | None = None
    """Pixels that one latent is expected to stand for, in each direction."""
