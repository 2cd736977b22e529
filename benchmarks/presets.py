"""`presets`: losses of the small presets compared with float32, with the same noise in every run.

Two models: the one that ships, trained by the product's `train` on rendered photos and one shared set of class images, and
one as small as can be with random weights, on synthetic latents. The row "fp32, cut" is float32 in forward passes of one
example: what mere rounding does.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.models import Part, family_of, random_components
from benchmarks.records import add_output_option, emit, say
from benchmarks.workload import StepChoices, start_run
from dreambooth.display_silent import SilentDisplay
from dreambooth.memory.plan import plan_of
from dreambooth.memory.settings import MemorySettings
from dreambooth.recipes.toybox import subject_look, write_photos
from dreambooth.recipes.train import train
from dreambooth.runs.events import read_events
from dreambooth.runs.folder import RunFolder
from dreambooth.runtime.device import choose_device
from dreambooth.runtime.precision import has_bfloat16
from dreambooth.schema.presets import toybox_training
from dreambooth.training.validation import validation_losses

__all__ = ["VARIANTS", "Losses", "add_arguments", "compared", "measure"]

VARIANTS: Mapping[str, Mapping[str, object]] = {
    "fp32": {"memory_preset": "cpu"},
    "fp32, cut": {"memory_preset": "cpu", "micro_batch_size": 1},
    "bf16-mixed": {"memory_preset": "cpu", "precision": "bf16-mixed"},
    "12gb": {"memory_preset": "12gb"},
    "8gb": {"memory_preset": "8gb"},
    "6gb": {"memory_preset": "6gb"},
    "8bit": {"memory_preset": "cpu", "optimizer_states": "8bit"},
    "4bit": {"memory_preset": "cpu", "optimizer_states": "4bit"},
    "bf16": {"memory_preset": "cpu", "precision": "bf16"},
}
"""Name of each run and its memory settings; the others are compared with the first one."""

_SUBJECT = "belted-vase"
_NUM_PHOTOS = 5


@dataclass(frozen=True)
class Losses:
    """Mean training loss of the last steps, and each validation loss before and after training."""

    last: float
    before: Mapping[str, float]
    after: Mapping[str, float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `presets`."""
    parser.add_argument(
        "--size",
        choices=("toybox", "miniature"),
        default="toybox",
        help="toybox: the bundled model, trained on rendered photos; miniature: random weights (default: %(default)s)",
    )
    parser.add_argument("--steps", type=int, default=200, help="training steps of each run (default: %(default)s)")
    parser.add_argument(
        "--last", type=int, default=50, help="steps at the end whose losses are averaged (default: %(default)s)"
    )
    parser.add_argument(
        "--variants", nargs="+", choices=tuple(VARIANTS), default=list(VARIANTS), help="runs in addition to fp32"
    )
    parser.add_argument(
        "--num-prior-images", type=int, default=24, help="number of class images of toybox (default: %(default)s)"
    )
    parser.add_argument(
        "--prior-sampling-steps", type=int, default=25, help="sampling steps per class image (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=2, help="photos per step of toybox, and class images per step (default: 2)"
    )
    parser.add_argument("--learning-rate", type=float, default=2e-4, help="learning rate of both models (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=23, help="random seed (default: %(default)s)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the first GPU, otherwise the CPU)")
    add_output_option(parser)


def measure(arguments: argparse.Namespace) -> None:
    """Train every variant and print one record per variant, with its difference from float32."""
    device = choose_device(arguments.device)
    names = ["fp32", *(name for name in arguments.variants if name != "fp32")]
    exact: Losses | None = None
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            if arguments.size == "toybox":
                losses = _train_toybox(name, arguments, Path(folder))
            else:
                losses = _train_miniature(name, arguments, device)
            exact = exact or losses
            values = {
                "size": arguments.size,
                "variant": name,
                "steps": arguments.steps,
                "last": arguments.last,
                "batch": arguments.batch_size if arguments.size == "toybox" else 1,
                "learning_rate": arguments.learning_rate,
                "seed": arguments.seed,
                **_plan(name, device),
                **compared(losses, exact),
            }
            record = emit("presets", values, arguments.output, device=device)
            say(_row(record))


def _plan(name: str, device: torch.device) -> dict[str, Any]:
    """The plan that results from the variant's settings; presets may change over time."""
    memory = MemorySettings.model_validate(VARIANTS[name])
    plan = plan_of(memory.memory_preset, memory, has_bfloat16=has_bfloat16(device))
    return {f"plan_{lever}": value for lever, value in vars(plan).items()}


def compared(losses: Losses, exact: Losses) -> dict[str, Any]:
    """The losses, and their relative differences from those of float32: 0.01 is one percent more."""
    return {
        "training_loss": losses.last,
        "training_difference": losses.last / exact.last - 1,
        **{f"{role}_loss_before": value for role, value in losses.before.items()},
        **{f"{role}_loss": value for role, value in losses.after.items()},
        **{f"{role}_difference": value / exact.after[role] - 1 for role, value in losses.after.items()},
    }


def _row(record: Mapping[str, Any]) -> str:
    differences = [f"{name} {record[f'{name}_difference']:+.3%}" for name in ("training", "instance", "prior")]
    return f"# {record['size']} {record['variant']}: {', '.join(differences)}"


def _train_toybox(name: str, arguments: argparse.Namespace, folder: Path) -> Losses:
    photos, run = folder / "photos", folder / "runs" / name.replace(", ", "-")
    if not photos.exists():
        write_photos(_SUBJECT, photos, num=_NUM_PHOTOS)
    settings = toybox_training(
        subject={"photos": str(photos), "class_word": subject_look(_SUBJECT).class_word},
        prior={"num_prior_images": arguments.num_prior_images, "prior_sampling_steps": arguments.prior_sampling_steps},
        optimizer={"learning_rate": arguments.learning_rate},
        loop={
            "steps": arguments.steps,
            "batch_size": arguments.batch_size,
            "device": arguments.device,
            "seed": arguments.seed,
        },
        memory=dict(VARIANTS[name]),
        output={"output": str(run), "preview_steps": 0, "validation_steps": arguments.steps},
    )
    train(settings, SilentDisplay())
    events = read_events(RunFolder(run).events)
    steps = [event["loss"] for event in events if event["event"] == "step"]
    before, after = (
        {role: event[f"{role}_loss"] for role in ("instance", "prior")} for event in events if event["event"] == "validation"
    )
    return Losses(_mean(steps[-arguments.last :]), before, after)


def _train_miniature(name: str, arguments: argparse.Namespace, device: torch.device) -> Losses:
    choices = StepChoices(memory=dict(VARIANTS[name]), learning_rate=arguments.learning_rate, seed=arguments.seed)
    family, part = family_of("miniature"), Part(device, torch.float32)
    components = random_components(family, unet=part, text_encoder=part, vae=None, seed=arguments.seed)
    run = start_run(family, choices, device=device, components=components)
    items = run.validation_items()

    def validated() -> dict[str, float]:
        return validation_losses(items, run.state.denoiser, device=device)

    losses = []
    with run.trainee.train_mode():
        before = validated()
        for _ in range(arguments.steps):
            result = next(run.steps)
            result.check()
            losses.append(result.loss)
        return Losses(_mean(losses[-arguments.last :]), before, validated())


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
