"""Pictures to try, made on the spot or shipped with the package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakePhoto = Callable[..., Path]


@pytest.fixture
def make_photo(tmp_path: Path) -> MakePhoto:
    """Write a picture of smooth noise, unlike any other with another seed; its path."""

    def make(name: str, *, width: int = 96, height: int = 80, seed: int = 0, folder: Path | None = None) -> Path:
        path = (folder or tmp_path / "photos") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(path)
        return path

    return make


@pytest.fixture(scope="session")
def real_photos() -> Path:
    """The folder of three real photos."""
    return Path(__file__).parents[2] / "photos" / "backpack_dog"
