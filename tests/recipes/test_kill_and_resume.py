"""Commands that are killed anywhere, by SIGKILL at random moments and before changes to the disk, then given again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_kills_change_nothing(small_model: Path) -> None:
    """Class images, the base model's predictions, encoding, steps, scores, previews, models and the final one."""
    command = [sys.executable, "-m", "tests.recipes.kill_and_resume", "--model", str(small_model), "--kills", "4"]
    done = subprocess.run([*command, "--works", "train"], capture_output=True, text=True, timeout=280, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("train: 4 kills (")


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_full_disk_and_a_read_only_one_lose_nothing(small_model: Path, fault: str) -> None:
    """Changes to the disk fail, with all later ones; the command given again finishes the work."""
    command = [sys.executable, "-m", "tests.recipes.kill_and_resume", "--model", str(small_model), "--fault", fault]
    done = subprocess.run(
        [*command, "--works", "prior", "--stride", "11"], capture_output=True, text=True, timeout=280, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("prior: ") and done.stdout.endswith(f" errors, {fault}\n")


@pytest.mark.slow
def test_each_command_goes_on_after_kills(small_model: Path) -> None:
    command = [sys.executable, "-m", "tests.recipes.kill_and_resume", "--model", str(small_model), "--kills", "2"]
    works = ["replay", "lora", "prior", "generate", "evaluate", "benchmark", "convert", "convert to a folder"]
    works += ["photos", "toybox photos", "lora extract"]
    done = subprocess.run([*command, "--works", *works], capture_output=True, text=True, timeout=280, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == works
