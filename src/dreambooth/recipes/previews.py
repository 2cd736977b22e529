"""Pictures of the same prompts from the same noise, made again as training goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dreambooth.families.components import Components
from dreambooth.sampling.images import save_picture, write_contact_sheet
from dreambooth.sampling.metadata import picture_text
from dreambooth.sampling.names import file_stem
from dreambooth.sampling.records import Picture, SamplingOptions
from dreambooth.sampling.sampler import decode, sample
from dreambooth.training.run_folder import RunFolder

__all__ = ["Previewer"]

_SEED = 42
_STEPS = 25


@dataclass(frozen=True)
class Previewer:
    """Makes one picture for every prompt into previews/step-000100/, and a sheet of all steps so far.

    Prompt number k starts from noise number k of a fixed seed: pictures compare from step to step and from run to run.
    """

    components: Components
    prompts: Sequence[str]
    resolution: int
    guidance_scale: float
    run: RunFolder
    device: torch.device
    dtype: torch.dtype
    model_digest: str

    def make(self, step: int) -> Path:
        """Make the pictures of this step and the sheet over time; the sheet's path.

        The VAE and a frozen text encoder come to the device for this alone.
        """
        parts = (self.components.vae, self.components.text_encoder)
        visitors = [module for module in parts if module.device.type != self.device.type]
        for module in visitors:
            module.to(self.device)
        options = SamplingOptions(
            sampler="ddim",
            steps=_STEPS,
            guidance_scale=self.guidance_scale,
            height=self.resolution,
            width=self.resolution,
            seed=_SEED,
        )
        for index, prompt in enumerate(self.prompts):
            picture = Picture(prompt, index)
            *_, final = sample(self.components, [picture], options, device=self.device, dtype=self.dtype)
            text = picture_text(picture, options, model_digest=self.model_digest, device=self.device, dtype=self.dtype)
            save_picture(self._path(step, index), decode(self.components, final.x_BCHW)[0], {**text, "step": str(step)})
        for module in visitors:
            module.to("cpu")
        return self._write_sheet()

    def _path(self, step: int, index: int) -> Path:
        return self.run.previews / f"step-{step:06d}" / f"{index:02d}-{file_stem(self.prompts[index])}.png"

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
