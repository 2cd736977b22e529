"""`cold-start`: times a short but complete run from a model file by phase, and scales it to full length (marked as scaled)."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.demo import import_seconds
from benchmarks.load import write_random_model
from benchmarks.models import add_model_options, family_of
from benchmarks.phases import JobTimes, event_phases
from benchmarks.records import add_output_option, emit
from dreambooth.config import parse_settings
from dreambooth.diffusion.randomness import generator
from dreambooth.display_events import EventsDisplay
from dreambooth.recipes.train import train
from dreambooth.runs.folder import RunFolder
from dreambooth.runtime.device import choose_device
from dreambooth.schema.verbs import TrainSettings

__all__ = ["add_arguments", "measure", "scaled_seconds"]

_NUM_PHOTOS = 5
_PREVIEW_STEPS, _VALIDATION_STEPS = 100, 50  # of a full run: the product's defaults


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `cold-start`."""
    add_model_options(parser)
    parser.add_argument("--memory-preset", help="memory preset (default: auto)")
    parser.add_argument("--steps", type=int, default=40, help="training steps (default: %(default)s)")
    parser.add_argument("--num-prior-images", type=int, default=16, help="class images to make (default: %(default)s)")
    parser.add_argument("--prior-batch-size", type=int, default=8, help="class images made at once (default: %(default)s)")
    parser.add_argument(
        "--prior-sampler", choices=("ddim", "dpm++"), default="ddim", help="sampler of class images (default: ddim)"
    )
    parser.add_argument(
        "--prior-sampling-steps", type=int, default=50, help="sampling steps per class image (default: %(default)s)"
    )
    parser.add_argument(
        "--compile", choices=("auto", "off", "blocks", "full"), default="auto", help="what torch compiles (default: auto)"
    )
    parser.add_argument("--scale-steps", type=int, default=800, help="steps of the full run (default: %(default)s)")
    parser.add_argument("--scale-images", type=int, default=200, help="class images of the full run (default: %(default)s)")
    add_output_option(parser)


def measure(arguments: argparse.Namespace) -> None:
    """Write a random model and noise photos, train, and print one record."""
    device, jobs = choose_device(arguments.device), JobTimes()
    family = family_of(arguments.size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, run = folder / "model.safetensors", RunFolder(folder / "runs" / "run")
        write_random_model(model, family, dtype=torch.float16, device=device)
        side = arguments.resolution or family.resolution
        _write_photos(folder / "photos", side)
        settings = _settings(arguments, model, folder / "photos", run.path, side)
        started, clock = time.time(), time.monotonic()
        train(settings, EventsDisplay(jobs.listen))
        seconds = time.monotonic() - clock
        phases = event_phases(run, started=started, ended=time.time())
    imports = import_seconds()
    values: dict[str, Any] = {
        "size": arguments.size,
        "seconds": round(seconds, 3),
        "import_seconds": imports,
        "jobs": {name: round(one, 3) for name, one in jobs.seconds.items()},
        "phases": phases,
        "steps": arguments.steps,
        "num_prior_images": arguments.num_prior_images,
        "preset": arguments.memory_preset or "auto",
        "compile": arguments.compile,
        "prior_batch_size": arguments.prior_batch_size,
        "prior_sampler": arguments.prior_sampler,
        "prior_sampling_steps": arguments.prior_sampling_steps,
        "batch": 1,
        "resolution": side,
        "scaled_seconds": round(imports + scaled_seconds(seconds, jobs.seconds.get("class images", 0.0), phases, arguments), 1),
        "scaled_note": f"not measured: {arguments.steps} steps and {arguments.num_prior_images} class images scaled to "
        f"{arguments.scale_steps} and {arguments.scale_images}, previews every {_PREVIEW_STEPS} steps and validation every "
        f"{_VALIDATION_STEPS}; files are read and written as in the short run",
    }
    emit("cold-start", values, arguments.output, device=device)


def scaled_seconds(seconds: float, images: float, phases: dict[str, float], arguments: argparse.Namespace) -> float:
    """The run's seconds, scaled to the class images, steps, previews and validations of a full run.

    This run looks twice, before and after its steps; its first step, which allocates, counts like the others. Reading and
    writing files stay as they were.
    """
    more_images: float = images * (arguments.scale_images / arguments.num_prior_images - 1)
    factors = {
        "until_step": arguments.scale_steps / arguments.steps,
        "until_preview": (1 + arguments.scale_steps / _PREVIEW_STEPS) / 2,
        "until_validation": (1 + arguments.scale_steps / _VALIDATION_STEPS) / 2,
    }
    more: float = sum(phases.get(name, 0.0) * (factor - 1) for name, factor in factors.items())
    return seconds + more_images + more


def _settings(arguments: argparse.Namespace, model: Path, photos: Path, run: Path, side: int) -> TrainSettings:
    values = {
        "base": {"model": str(model)},
        "subject": {"photos": str(photos), "class_word": "dog"},
        "views": {"resolution": side},
        "prior": {
            "num_prior_images": arguments.num_prior_images,
            "prior_batch_size": arguments.prior_batch_size,
            "prior_sampler": arguments.prior_sampler,
            "prior_sampling_steps": arguments.prior_sampling_steps,
        },
        "loop": {"steps": arguments.steps, "device": arguments.device, "compile": arguments.compile, "seed": arguments.seed},
        "memory": {"memory_preset": arguments.memory_preset or "auto"},
        "output": {"output": str(run), "preview_steps": arguments.steps, "validation_steps": arguments.steps},
    }
    return parse_settings(TrainSettings, values, where="benchmark")


def _write_photos(folder: Path, side: int) -> None:
    """Write noise images; the contents do not affect the timing."""
    folder.mkdir()
    for number in range(_NUM_PHOTOS):
        pixels = torch.randint(0, 256, (side, side, 3), generator=generator(0, "photo", number), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
