"""The runs and files that are compared: full training, LoRAs trained for as long, and LoRAs extracted from the full runs."""

from __future__ import annotations

import itertools
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dreambooth.display_console import ConsoleDisplay
from dreambooth.recipes.lora import extract
from dreambooth.runs.events import read_events
from dreambooth.runs.folder import RunFolder
from dreambooth.toybox.files import EMBEDDED_MODEL
from dreambooth.weights.settings import LoraExtractSettings
from experiments.results.runs import TOKENS, Pair, Place, Scale, train_at, type_command

__all__ = [
    "LoraScale",
    "Training",
    "extract_from",
    "learn_full",
    "learn_lora",
    "learn_second",
    "measure_speed",
    "merge_pair",
    "step_seconds",
    "with_lora",
]


@dataclass(frozen=True)
class Training:
    """How a LoRA is trained; everything else is as in the toybox preset."""

    rank: int
    learning_rate: float
    steps: int

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags of `dreambooth train`."""
        learned = ("--trainee", "lora", "--rank", str(self.rank), "--learning-rate", str(self.learning_rate))
        return (*learned, "--steps", str(self.steps))


@dataclass(frozen=True)
class LoraScale:
    """The amount of work. A smaller scale only tests the code; its numbers mean nothing."""

    work: Scale = field(default_factory=lambda: Scale(sampling_steps=20, num_images=2, num_class_images=12))
    ranks: tuple[int, ...] = (4, 16, 64)
    extracted_ranks: tuple[int, ...] = (8, 32, 128)
    merged_rank: int = 16
    """Rank of the LoRAs that are merged; one of `ranks`."""
    rates: tuple[float, ...] = (5e-4, 1e-3, 2e-3)
    """Learning rates of which the best is taken."""
    rate_subject: str = "upright-mug"
    """The subject that chooses; none of those that are measured."""
    speed_rounds: int = 3
    speed_steps: int = 20
    """Steps of each kind of training in each round, in which the kinds take turns."""


def measure_speed(place: Place, scale: LoraScale) -> dict[str, Any]:
    """Seconds a step of full training and of a LoRA of each rank, and the steps that each makes in the time of the full runs.

    The median over steps; the kinds take turns, so that other work on the machine slows all of them alike.
    """
    shutil.rmtree(place.output / "speed", ignore_errors=True)  # of a measurement that was stopped
    seconds: dict[str, list[float]] = {}
    for count, rank in itertools.product(range(1, scale.speed_rounds + 1), (None, *scale.ranks)):
        kind, steps = "full" if rank is None else str(rank), count * scale.speed_steps
        run = place.output / "speed" / kind
        flags = ("--steps", str(steps)) if rank is None else Training(rank, scale.rates[0], steps).flags
        if count == 1:
            train_at(place, scale.work, scale.rate_subject, run, *flags)
        else:
            type_command("train", "--resume", run, "--steps", steps)
        seconds[kind] = step_seconds(run)
    typical = {kind: statistics.median(found) for kind, found in seconds.items()}
    steps_in_equal_time = {kind: max(1, round(scale.work.steps * typical["full"] / found)) for kind, found in typical.items()}
    return {"seconds a step": typical, "steps": steps_in_equal_time}


def learn_full(place: Place, scale: LoraScale, name: str) -> Path:
    """The run of a subject with the toybox preset."""
    run = place.output / "runs" / "full" / name
    train_at(place, scale.work, name, run, "--steps", scale.work.steps)
    return run


def learn_lora(place: Place, scale: LoraScale, name: str, training: Training) -> Path:
    """The run of a subject as a LoRA."""
    run = place.output / "runs" / f"rank-{training.rank}-{training.learning_rate:g}" / name
    train_at(place, scale.work, name, run, *training.flags)
    return run


def learn_second(place: Place, scale: LoraScale, pair: Pair, training: Training) -> Path:
    """The run of the second subject of a pair as a LoRA with the second token."""
    run = place.of_pair(pair) / "second"
    train_at(place, scale.work, pair.second, run, *training.flags, "--token", TOKENS[1])
    return run


def extract_from(place: Place, run: Path, name: str, *, rank: int) -> tuple[Path, dict[str, float]]:
    """The LoRA extracted from a full run, and the share of the change that it keeps of each part."""
    folder = place.output / "extracted" / f"rank-{rank}"
    file = folder / f"{name}.safetensors"
    file.unlink(missing_ok=True)  # of a measurement that was stopped
    folder.mkdir(parents=True, exist_ok=True)
    asked = LoraExtractSettings.model_validate({"base": EMBEDDED_MODEL, "tuned": str(run), "output": file, "rank": rank})
    written = extract(asked, ConsoleDisplay())
    return file, {part.title: part.share for part in written.parts}


def merge_pair(place: Place, pair: Pair, runs: Sequence[Path]) -> Path:
    """The LoRAs of both subjects merged into one file."""
    file = place.of_pair(pair) / "merged.safetensors"
    file.unlink(missing_ok=True)
    type_command("lora", "merge", file, *itertools.chain.from_iterable(("--lora", run) for run in runs))
    return file


def with_lora(file: Path) -> Path:
    """The base model with a LoRA file, as a model file."""
    model = file.with_name(f"{file.stem}-model.safetensors")
    model.unlink(missing_ok=True)
    type_command("lora", "merge", model, "--model", EMBEDDED_MODEL, "--lora", file)
    return model


def step_seconds(run: Path) -> list[float]:
    """The seconds between two steps in a row; what another event took is left out, as is the time between two commands."""
    events = read_events(RunFolder(run).events)
    pairs = [pair for pair in itertools.pairwise(events) if all(event["event"] == "step" for event in pair)]
    return [later["time"] - earlier["time"] for earlier, later in pairs]
