"""Images of a model by prompt, the encoders that compare them, and means with confidence intervals.

Shapes: P prompts, S images per prompt, N images, C channels, H and W sizes in pixels, D widths of features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreambooth.data.photos import read_pixels
from dreambooth.data.size import Size
from dreambooth.data.views import View, render_view
from dreambooth.display_console import ConsoleDisplay
from dreambooth.evaluation.choose_encoders import choose_encoders
from dreambooth.evaluation.evaluator import Encoders
from dreambooth.evaluation.prompt_sets import usual_guidance_scale
from dreambooth.measures.intervals import bootstrap_interval
from dreambooth.measures.settings import EvaluationSettings
from dreambooth.pictures.sample_cache import SampleCache
from dreambooth.sampling.records import Picture
from dreambooth.sampling.settings import SampleSettings
from dreambooth.toybox.judge import SIDE
from dreambooth.weights.read import model_name, read_model

__all__ = ["Gallery", "judges_in", "number", "over_subjects", "photo_pixels"]

_CPU = torch.device("cpu")
_SEED = 0


@dataclass(frozen=True)
class Gallery:
    """Images of many models, cached in a folder; image k of every prompt and model starts from noise k of `seed`."""

    folder: Path
    sampling_steps: int
    seed: int

    def shown(self, model: str, prompts: Sequence[str], num: int) -> Tensor:
        """`num` images per prompt, (P, S, 3, H, W) in [0, 1]; `model` is a file, a run folder or toybox."""
        sample = SampleSettings(
            sampling_steps=self.sampling_steps,
            guidance_scale=usual_guidance_scale(is_toybox=True),
            sampler="ddim",
            seed=self.seed,
            device="cpu",
        )
        name = model_name(Path(model)) if Path(model).is_dir() else model
        sample_cache = SampleCache(self.folder, read_model(name).made_for(SIDE), name, sample, _CPU)
        pictures = [Picture(prompt, index) for prompt in prompts for index in range(num)]
        made_NCHW = torch.stack(sample_cache.make(pictures, ConsoleDisplay()))
        return made_NCHW.view(len(prompts), num, *made_NCHW.shape[1:])


def judges_in(folder: Path) -> Encoders:
    """The bundled encoders, which cache features in a folder."""
    return choose_encoders(EvaluationSettings(), side=SIDE, is_toybox=True, device=_CPU, cache=folder)


def photo_pixels(folder: Path) -> Tensor:
    """The square photos of a rendered subject, (N, 3, 64, 64) in [0, 1]."""
    views = []
    for path in sorted(folder.glob("*.png")):
        pixels = read_pixels(path, background="white")
        height, width = pixels.shape[:2]
        views.append(
            (render_view(pixels, View(Size.square(SIDE), top=0, left=0, height=height, width=width, flip=False)) + 1) / 2
        )
    return torch.stack(views)


def number(values_PS: Tensor, key: str) -> dict[str, float | None]:
    """The mean over prompts and images, with its confidence interval; `key` seeds the bootstrap."""
    low, high = bootstrap_interval(values_PS, seed=_SEED, key=key) or (None, None)
    return {"value": float(values_PS.double().mean()), "low": low, "high": high}


def over_subjects(scores: Sequence[dict[str, Any]], key: str) -> dict[str, float | None]:
    """The mean of scores over subjects; its interval comes from resampling subjects."""
    return number(torch.tensor([[score["value"]] for score in scores]), key)
