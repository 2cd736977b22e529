"""Runs that are killed again and again: `python kill_and_resume.py MODEL PHOTOS FOLDER NUM_KILLS SEED`.

Everything is imported once; each attempt is a forked child, which the parent kills with SIGKILL after a random time and
then resumes. Prints how many kills hit a living child. No tensor is computed before the forks: threads do not survive them.
"""

from __future__ import annotations

import io
import os
import random
import signal
import sys
import time
from pathlib import Path

import transformers.models.clip.modeling_clip
import transformers.models.clip.tokenization_clip  # noqa: F401 - the recipe would load these in every child
from rich.console import Console

from dreambooth.config import parse_settings
from dreambooth.display_console import ConsoleDisplay
from dreambooth.errors import RunError
from dreambooth.recipes.train import resume, train
from dreambooth.schema.verbs import TrainSettings

STEPS = 10


def settings(model: str, photos: str, output: Path) -> TrainSettings:
    """A short run with everything on that has state: class images, predictions, average, warm-up, micro-batches, rotation."""
    return parse_settings(
        TrainSettings,
        {
            "base": {"model": model},
            "subject": {"photos": photos, "class_word": "backpack"},
            "views": {"resolution": 64},
            "prior": {
                "num_prior_images": 4,
                "prior_sampling_steps": 2,
                "prior_batch_size": 2,
                "prior_target": "prediction",
                "prior_examples": "both",
            },
            "optimizer": {"learning_rate": 1e-4, "warmup_steps": 5, "max_gradient_norm": 1.0},
            "loop": {"steps": STEPS, "ema_decay": 0.9, "gradient_accumulation": 2},
            "output": {
                "output": str(output),
                "checkpoint_steps": 3,
                "keep_checkpoints": 2,
                "preview_steps": 20,
                "preview_prompts": ["{instance_prompt}"],
                "validation_steps": 5,
                "model_dtype": "float32",
            },
        },
        where="test",
    )


def attempt(model: str, photos: str, output: Path) -> None:
    """Start the run, or go on with it when it was started."""
    display = ConsoleDisplay(Console(file=io.StringIO()))
    if (output / "config.yaml").exists():
        resume(output, {}, display)
    else:
        train(settings(model, photos, output), display)


def run_child(model: str, photos: str, output: Path, kill_after: float | None) -> tuple[bool, float]:
    """One attempt in a child; whether it finished by itself, and the seconds it lived."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            attempt(model, photos, output)
        except RunError as error:
            print(error, flush=True)
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        while time.monotonic() - start < kill_after:
            if os.waitpid(child, os.WNOHANG) != (0, 0):
                return True, time.monotonic() - start
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return status == 0, time.monotonic() - start


def main() -> None:
    """Run undisturbed, then with kills."""
    model, photos, folder, num_kills, seed = sys.argv[1:]
    chance = random.Random(int(seed))
    finished, seconds = run_child(model, photos, Path(folder) / "undisturbed" / "run", None)
    assert finished, "the undisturbed run failed"
    kills, runs, finished = 0, 0, True
    while kills < int(num_kills):
        runs += finished  # one that came through in spite of all is left, and the next one is killed
        run = Path(folder) / f"disturbed-{runs}" / "run"
        finished, _ = run_child(model, photos, run, chance.uniform(0, seconds / 2))
        kills += not finished
    while not finished:
        finished, _ = run_child(model, photos, run, None)
    print(f"kills: {kills}")


if __name__ == "__main__":
    main()
