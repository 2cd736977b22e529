"""Runs of the miniature on real photos, shared by the tests of the recipes."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dreambooth.config import parse_settings
from dreambooth.recipes.display import Display
from dreambooth.recipes.settings import TrainSettings

PHOTOS = Path(__file__).parents[2] / "src" / "dreambooth" / "presets" / "photos" / "backpack_dog"


@pytest.fixture(scope="session")
def photos() -> Path:
    """Three real photos of one backpack."""
    return PHOTOS


@pytest.fixture
def display() -> Display:
    """A display that keeps what it is told; read it with `shown`."""
    return Display(Console(file=io.StringIO(), width=200))


def shown(display: Display) -> str:
    """Everything that was said."""
    file = display.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.fixture
def said(display: Display) -> Callable[[], str]:
    return lambda: shown(display)


@pytest.fixture
def run_settings(golden_checkpoint: Path, photos: Path, tmp_path: Path) -> Callable[..., TrainSettings]:
    """Settings of a short run of the miniature; sections given by name are laid over them."""

    def make(**sections: dict[str, Any]) -> TrainSettings:
        values: dict[str, dict[str, Any]] = {
            "base": {"model": str(golden_checkpoint)},
            "subject": {"photos": str(photos), "class_word": "backpack"},
            "views": {"resolution": 64},
            "prior": {"num_prior_images": 2, "prior_sampling_steps": 2},
            "optimizer": {"learning_rate": 1e-4},
            "loop": {"steps": 4},
            "output": {"output": str(tmp_path / "runs" / "dog"), "preview_steps": 0, "validation_steps": 0},
        }
        for name, section in sections.items():
            values[name] = {**values.get(name, {}), **section}
        return parse_settings(TrainSettings, values, where="test")

    return make


@pytest.fixture(scope="session")
def dreambooth() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The installed command."""

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("dreambooth")), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, cwd=cwd)

    return run
