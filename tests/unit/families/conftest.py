"""Models of several sizes: the real one, the golden miniature, and smaller ones that share no number with either."""

from __future__ import annotations

import pytest

from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.shapes import TextShape, UNetShape, VaeShape

FULL = StableDiffusion1(
    UNetShape(4, 4, (320, 640, 1280, 1280), 2, (1, 1, 1, 0), 1, 768, False),
    VaeShape(3, 4, (128, 256, 512, 512), 2),
    TextShape(49408, 77, 768, 3072, 12),
)
GOLDEN = StableDiffusion1(
    UNetShape(4, 4, (32, 32, 64, 64), 2, (1, 1, 1, 0), 1, 64, False),
    VaeShape(3, 4, (32, 32, 64, 64), 2),
    TextShape(49408, 77, 64, 256, 3),
)
THREE_LEVELS = StableDiffusion1(
    UNetShape(4, 4, (64, 128, 192), 1, (0, 1, 1), 1, 128, False),
    VaeShape(3, 4, (32, 64, 96), 1),
    TextShape(49408, 77, 128, 256, 2),
)
ONE_LEVEL = StableDiffusion1(
    UNetShape(8, 8, (32,), 3, (1,), 1, 64, False), VaeShape(3, 8, (32, 32), 1), TextShape(100, 16, 64, 96, 1)
)


@pytest.fixture(params=[FULL, GOLDEN, THREE_LEVELS, ONE_LEVEL], ids=["full", "golden", "three levels", "one level"])
def family(request: pytest.FixtureRequest) -> StableDiffusion1:
    chosen: StableDiffusion1 = request.param
    return chosen


@pytest.fixture(scope="session")
def full() -> StableDiffusion1:
    return FULL


@pytest.fixture(scope="session")
def small() -> StableDiffusion1:
    return THREE_LEVELS
