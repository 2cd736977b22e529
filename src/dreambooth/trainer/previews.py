"""Preview images: the same prompts from the same noise, generated repeatedly during training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dreambooth.data.size import Size
from dreambooth.families.components import Components
from dreambooth.pages.images import save_picture, write_contact_sheet
from dreambooth.runs.folder import RunFolder
from dreambooth.sampling.metadata import picture_text
from dreambooth.sampling.names import file_stem
from dreambooth.sampling.placing import visiting
from dreambooth.sampling.records import Picture, SamplingOptions
from dreambooth.sampling.sampler import decode, final_latents

__all__ = ["Previewer"]

_SEED = 42


_STEPS = 25


@dataclass(frozen=True)
class Previewer:
    """Generates one image per prompt in previews/step-000100/, and a sheet of all steps so far.

    Prompt k starts from noise k of a fixed seed, so images are comparable between steps and runs.
    """

    components: Components
    prompts: Sequence[str]
    size: Size
    guidance_scale: float
    run: RunFolder
    device: torch.device
    dtype: torch.dtype
    model_digest: str

    @property
    def _options(self) -> SamplingOptions:
        return SamplingOptions(
            sampler="ddim",
            steps=_STEPS,
            guidance_scale=self.guidance_scale,
            height=self.size.height,
            width=self.size.width,
            seed=_SEED,
        )

    def latents(self) -> list[Tensor]:
        """The final latents of every prompt, (1, C, H, W) each."""
        return [self._latent(Picture(prompt, index)) for index, prompt in enumerate(self.prompts)]

    def _latent(self, picture: Picture) -> Tensor:
        return final_latents(self.components, [picture], self._options, device=self.device, dtype=self.dtype)

    def write(self, step: int, latents: Sequence[Tensor]) -> Path:
        """Write the images of this step and the sheet over time; returns the sheet's path. Moves the VAE to the device for it.

        Raises ModelFileError for an image that is not finite.
        """
        with visiting([self.components.vae], self.device):
            for index, (prompt, latent_BCHW) in enumerate(zip(self.prompts, latents, strict=True)):
                text = picture_text(
                    Picture(prompt, index), self._options, model_digest=self.model_digest, device=self.device, dtype=self.dtype
                )
                save_picture(self._path(step, index), decode(self.components, latent_BCHW)[0], {**text, "step": str(step)})
        return self._write_sheet()

    def _path(self, step: int, index: int) -> Path:
        return self.run.previews_at(step) / f"{index:02d}-{file_stem(self.prompts[index])}.png"

    def _write_sheet(self) -> Path:
        steps = sorted(int(folder.name.removeprefix("step-")) for folder in self.run.previews.glob("step-*"))
        rows = [[self._path(step, index) for index in range(len(self.prompts))] for step in steps]
        labelled = [(f"step {step}", row) for step, row in zip(steps, rows, strict=True) if all(path.exists() for path in row)]
        sheet, *_ = write_contact_sheet(
            self.run.previews / "over-time.png",
            [row for _, row in labelled],
            row_labels=[label for label, _ in labelled],
            column_labels=self.prompts,
        )
        return sheet
