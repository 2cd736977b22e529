"""`dreambooth demo`: the whole job once, small, with nothing but what ships with the package.

There is no trained base model in the package yet, so the demo makes a miniature with random weights: it shows that
everything runs and what a run looks like, and its pictures are noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dreambooth import presets
from dreambooth.data.settings import PriorSettings, SubjectSettings, ViewSettings
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.shapes import TextShape, UNetShape, VaeShape
from dreambooth.recipes.display import Display
from dreambooth.recipes.generate import GenerateResult, generate
from dreambooth.recipes.settings import DemoSettings, GenerateSettings, TrainSettings
from dreambooth.recipes.train import TrainResult, train
from dreambooth.sampling.settings import SampleSettings
from dreambooth.training.settings import LoopSettings, OptimizerSettings, OutputSettings
from dreambooth.weights.random_weights import random_model
from dreambooth.weights.settings import BaseModelSettings
from dreambooth.weights.write import write_single_file

__all__ = ["DemoResult", "demo", "miniature"]

_PHOTOS = Path(presets.__file__).parent / "photos" / "backpack_dog"
_SIDE = 64
_SEED = 23


@dataclass(frozen=True)
class DemoResult:
    """What the demo left."""

    trained: TrainResult
    pictures: GenerateResult


def miniature() -> StableDiffusion1:
    """A Stable Diffusion 1 with every part of the real one, small enough for a laptop."""
    return StableDiffusion1(
        unet=UNetShape(
            in_channels=4,
            out_channels=4,
            widths=(32, 64),
            num_layers=1,
            depths=(1, 1),
            middle_depth=1,
            context_width=64,
            has_linear_projections=False,
        ),
        vae=VaeShape(pixel_channels=3, latent_channels=4, widths=(32, 32, 64), num_layers=1),
        text=TextShape(vocabulary=49408, num_positions=77, width=64, inner_width=256, num_layers=2),
    )


def demo(settings: DemoSettings, display: Display) -> DemoResult:
    """Train the miniature on three photos of a backpack, then make pictures with it."""
    display.say(
        "This demo trains a miniature with random weights, because no trained base model ships with the package yet:\n"
        "it shows the whole way from photos to pictures, and the pictures are noise."
    )
    output = _free(settings.output)
    model = output.parent / "demo-base-model.safetensors"
    write_single_file(model, random_model(miniature(), seed=_SEED), dtype=None, metadata={})
    trained = train(_train_settings(settings, output, model), display)
    sample = SampleSettings(
        prompt=("photo of a sks backpack", "photo of a sks backpack on the moon", "photo of a backpack"),
        num_images=2,
        steps=20,
        width=_SIDE,
        height=_SIDE,
        device=settings.device,
        output=output / "pictures",
    )
    pictures = generate(GenerateSettings(base=BaseModelSettings(model=str(output)), sample=sample), display)
    display.say(
        "That was the whole job; its pictures are noise, as announced. With a real model and your own photos:\n"
        "  dreambooth train --model sd-v1-4.ckpt --photos FOLDER --class-word dog --output runs/mine"
    )
    return DemoResult(trained, pictures)


def _train_settings(settings: DemoSettings, output: Path, model: Path) -> TrainSettings:
    return TrainSettings(
        base=BaseModelSettings(model=str(model)),
        subject=SubjectSettings(photos=_PHOTOS, class_word="backpack"),
        views=ViewSettings(resolution=_SIDE),
        prior=PriorSettings(num_prior_images=8, prior_sampling_steps=20, prior_batch_size=8),
        optimizer=OptimizerSettings(learning_rate=1e-4),
        loop=LoopSettings(steps=settings.steps, device=settings.device),
        output=OutputSettings(
            output=output, preview_steps=max(1, settings.steps // 2), validation_steps=max(1, settings.steps // 3)
        ),
    )


def _free(folder: Path) -> Path:
    """`folder`, or the first of folder-2, folder-3, ... that nothing stands at: a demo may be run again and again."""
    candidate, number = folder, 2
    while candidate.exists():
        candidate, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return candidate
