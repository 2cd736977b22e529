"""What pictures are asked for. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dreambooth.config import Settings

__all__ = ["SampleSettings", "Sampler"]

Sampler = Literal["ddim", "dpm++", "euler", "euler-a", "plms"]


class SampleSettings(Settings):
    """The pictures to make."""

    prompt: tuple[str, ...] = ()
    """What to show; several may be given."""

    prompts_file: Path | None = None
    """A text file with one prompt a line, added to --prompt."""

    negative_prompt: str = ""
    """What to keep away from."""

    num_images: Annotated[int, Field(ge=1)] = 4
    """Pictures for each prompt."""

    steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Denoising steps; exactly so many are made."""

    guidance_scale: Annotated[float, Field(ge=0)] = 7.5
    """How strongly the prompt pulls; 1 is no guidance, the original's README uses 10."""

    sampler: Sampler = "ddim"
    """How noise is removed."""

    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fresh noise in DDIM: 0 is deterministic, 1 is ancestral."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42
    """Picture k of every prompt starts from noise made of this number and k alone."""

    width: Annotated[int, Field(ge=64, le=2048, multiple_of=8)] | None = None
    """Width in pixels; the model's own size when not given."""

    height: Annotated[int, Field(ge=64, le=2048, multiple_of=8)] | None = None
    """Height in pixels; the model's own size when not given."""

    batch_size: Annotated[int, Field(ge=1)] = 4
    """Pictures made at once; the pictures do not depend on it."""

    precision: Literal["fp32", "bf16", "fp16"] | None = None
    """Number format of the model while it makes pictures; fp16 on a GPU and fp32 on the CPU when not given."""

    device: str | None = None
    """Where to make pictures: cpu, cuda, cuda:1, mps. The first GPU, else the CPU, when not given."""

    output: Path = Path("pictures")
    """Folder for the pictures; existing files are never overwritten."""

    grid: bool = True
    """Also write all pictures of a prompt as one grid."""

    @model_validator(mode="after")
    def _options_have_effect(self) -> SampleSettings:
        if self.eta > 0 and self.sampler != "ddim":
            raise ValueError(f"eta is an option of the ddim sampler and would have no effect with {self.sampler}")
        if self.guidance_scale == 1 and self.negative_prompt:
            raise ValueError("guidance_scale is 1, so negative_prompt would have no effect; leave out one or the other")
        return self
