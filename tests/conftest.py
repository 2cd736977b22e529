"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import gc
import importlib.util
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

# One thread, here and in the commands that tests start: the models are tiny, sums keep their order on every machine, and
# threads that wait for each other on a busy machine are slower than one by a factor of twenty.
os.environ["OMP_NUM_THREADS"] = "1"
# Containers often forbid compiled modules to be kept. Then each worker, and each of the hundreds of commands that tests start,
# would compile everything again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The garbage collector would walk through all modules and tests again and again: a tenth of the time of a run.
gc.disable()

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from dreambooth.config import parse_settings
from dreambooth.display_console import ConsoleDisplay
from dreambooth.families.components import Components
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.sdxl import StableDiffusionXL
from dreambooth.families.shapes import TextShape, UNetShape, VaeShape
from dreambooth.schema.verbs import TrainSettings
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_model
from dreambooth.weights.write import write_single_file
from tests.random_weights import random_model


def pytest_collection_finish() -> None:
    """From here on garbage is collected, but not among what was there before the first test."""
    gc.collect()
    gc.freeze()
    gc.enable()


GOLDEN = Path(__file__).parent / "golden"


def _golden_module(folder: Path = GOLDEN) -> ModuleType:
    specification = importlib.util.spec_from_file_location("golden_rebuild", folder / "rebuild.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def golden_state_dict() -> dict[str, torch.Tensor]:
    """The miniature checkpoint's tensors under the original's names."""
    state_dict: dict[str, torch.Tensor] = _golden_module().rebuild_state_dict()
    return state_dict


@pytest.fixture(scope="session")
def golden_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature Stable Diffusion 1 checkpoint in the original format, as a .ckpt file."""
    path = tmp_path_factory.mktemp("golden") / "sd-v1-mini.ckpt"
    _golden_module().write_checkpoint(path)
    return path


@pytest.fixture(scope="session")
def golden_expected() -> dict[str, torch.Tensor]:
    """What the original code computed with the miniature checkpoint."""
    return load_file(GOLDEN / "expected.safetensors")


@pytest.fixture(scope="session")
def golden_config() -> Path:
    """The miniature checkpoint's YAML in the original configuration language."""
    return GOLDEN / "v1-mini.yaml"


@pytest.fixture(scope="session")
def golden_xl() -> ModuleType:
    """The module that rebuilds the miniature Stable Diffusion XL."""
    return _golden_module(GOLDEN / "xl")


@pytest.fixture(scope="session")
def golden_xl_checkpoint(golden_xl: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature Stable Diffusion XL in the original format, float16 as real files are."""
    path = tmp_path_factory.mktemp("golden-xl") / "sdxl-mini.safetensors"
    save_file(golden_xl.rebuild_state_dict(), path)
    return path


@pytest.fixture(scope="session")
def golden_xl_float32(golden_xl_checkpoint: Path) -> Components:
    """The miniature Stable Diffusion XL, ready to compute in float32. Tests must not change it."""
    return read_model(str(golden_xl_checkpoint)).build(dtype=torch.float32)


@pytest.fixture(scope="session")
def golden_v2_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature Stable Diffusion 2 checkpoint in the original format, with the YAML that states its prediction."""
    path = tmp_path_factory.mktemp("golden_v2") / "sd-v2-mini.ckpt"
    torch.save({"state_dict": _golden_module(GOLDEN / "v2").rebuild_state_dict(), "global_step": 100}, path)
    shutil.copy(GOLDEN / "v2" / "v2-mini.yaml", path.with_suffix(".yaml"))
    return path


@pytest.fixture(scope="session")
def golden_v2(golden_v2_checkpoint: Path) -> ModelWeights:
    """The miniature Stable Diffusion 2, read from its checkpoint."""
    return read_model(str(golden_v2_checkpoint))


@pytest.fixture(scope="session")
def golden_v2_expected() -> dict[str, torch.Tensor]:
    """What the original code computed with the miniature Stable Diffusion 2."""
    return load_file(GOLDEN / "v2" / "expected.safetensors")


PHOTOS = Path(__file__).parent / "photos" / "backpack_dog"


@pytest.fixture(scope="session")
def photos() -> Path:
    """Three real photos of one backpack."""
    return PHOTOS


@pytest.fixture(scope="session")
def miniature() -> StableDiffusion1:
    """A Stable Diffusion 1 with every part of the real one, as small as can be: for random weights."""
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


@pytest.fixture(scope="session")
def miniature_xl() -> StableDiffusionXL:
    """A Stable Diffusion XL with every part of the real one, as small as can be: for random weights."""
    return StableDiffusionXL(
        unet=UNetShape(
            in_channels=4,
            out_channels=4,
            widths=(64, 64),
            num_layers=1,
            depths=(0, 1),
            middle_depth=1,
            context_width=64 + 128,
            has_linear_projections=True,
            vector_width=128 + 6 * 256,
        ),
        vae=VaeShape(pixel_channels=3, latent_channels=4, widths=(32, 32, 64), num_layers=1),
        text=TextShape(vocabulary=49408, num_positions=77, width=64, inner_width=256, num_layers=2),
        text_2=TextShape(vocabulary=49408, num_positions=77, width=128, inner_width=256, num_layers=2, projection_width=128),
    )


@pytest.fixture(scope="session")
def small_model(miniature: StableDiffusion1, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of the smallest size with random weights, for pictures of 64 pixels: every step with it is quick."""
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    write_single_file(path, random_model(miniature, seed=0).made_for(64), dtype=None, metadata={})
    return path


@pytest.fixture
def display() -> ConsoleDisplay:
    """A display that keeps what it is told; read it with `shown`."""
    return ConsoleDisplay(Console(file=io.StringIO(), width=200))


def shown(display: ConsoleDisplay) -> str:
    """Everything that was said."""
    file = display.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.fixture
def said(display: ConsoleDisplay) -> Callable[[], str]:
    return lambda: shown(display)


@pytest.fixture
def run_settings(photos: Path, tmp_path: Path, small_model: Path) -> Callable[..., TrainSettings]:
    """Settings of a short run of the smallest model; sections given by name are laid over them."""

    def make(**sections: dict[str, Any]) -> TrainSettings:
        values: dict[str, dict[str, Any]] = {
            "base": {"model": str(small_model)},
            "subject": {"photos": str(photos), "class_word": "backpack"},
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
