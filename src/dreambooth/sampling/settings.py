"""Settings of the images to generate. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dreambooth.config import Settings, Text

__all__ = ["PicturePrecision", "SampleSettings", "Sampler"]

Sampler = Literal["ddim", "dpm++", "euler", "euler-a", "plms"]
PicturePrecision = Literal["fp32", "bf16", "fp16"]


class SampleSettings(Settings):
    """Images to generate."""

    prompt: tuple[Text, ...] = ()
    """Prompts; one or more."""

    prompts_file: Path | None = None
    """Text file with one prompt per line, in addition to --prompt."""

    negative_prompt: Text = ""
    """What the images should not show."""

    encode_empty_prompt: bool = False
    """For SDXL: encode an empty negative prompt as text, as some programs do, instead of zeros as in the original code."""

    num_images: Annotated[int, Field(ge=1, le=1_000_000)] = 4
    """Images per prompt."""

    sampling_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    """Denoising steps."""

    guidance_scale: Annotated[float, Field(ge=0)] = 7.5
    """Guidance scale: how closely to follow the prompt; 1 turns guidance off, the original's README uses 10."""

    sampler: Sampler = "ddim"
    """Sampling method."""

    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Noise added in each DDIM step: 0 is deterministic, 1 is ancestral sampling."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42
    """Random seed; image k of every prompt starts from noise that depends only on the seed and k."""

    width: Annotated[int, Field(ge=64, le=2048, multiple_of=8)] | None = None
    """Width in pixels; default: the model's native size."""

    height: Annotated[int, Field(ge=64, le=2048, multiple_of=8)] | None = None
    """Height in pixels; default: the model's native size."""

    batch_size: Annotated[int, Field(ge=1, le=100_000)] = 4
    """Images generated at once; does not affect the result."""

    precision: PicturePrecision | None = None
    """Precision of the model; default: fp16 on a GPU, fp32 on the CPU."""

    device: str | None = None
    """Device: cpu, cuda, cuda:1, mps; default: the first GPU, or the CPU if there is none."""

    output: Path = Path("pictures")
    """Folder for the images; existing files are never overwritten."""

    grid: bool = True
    """Also write all images of a prompt as one grid."""

    @model_validator(mode="after")
    def _options_have_effect(self) -> SampleSettings:
        if self.eta > 0 and self.sampler != "ddim":
            raise ValueError(f"eta applies only to the ddim sampler and would have no effect with {self.sampler}; omit it")
        if self.encode_empty_prompt and (self.guidance_scale == 1 or self.negative_prompt):
            raise ValueError("encode_empty_prompt applies only to guidance without a negative prompt; omit it")
        if self.guidance_scale == 1 and self.negative_prompt:
            raise ValueError("guidance_scale is 1, so negative_prompt would have no effect; use only one of them")
        return self
