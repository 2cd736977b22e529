"""A model of any size with random weights: for trying the machinery, and for measuring speed and memory, without a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from dreambooth.diffusion.randomness import normal
from dreambooth.families.family import Family
from dreambooth.families.shapes import Shape
from dreambooth.weights.model_weights import ModelWeights, ReadingReport

__all__ = ["random_model"]


def random_model(family: Family, *, seed: int) -> ModelWeights:
    """Weights in float32 that depend on the family's shape and the seed alone; its pictures are noise.

    Matrices and convolutions are normal with variance 1 / fan-in, so that signals keep their size through the layers;
    norms begin as the identity and biases at zero.
    """
    return ModelWeights(
        family=family,
        parts={name: _random(part.blueprint, seed, name) for name, part in family.parts.items()},
        report=ReadingReport(Path("random weights"), "single file", (), family.title, (), "only"),
        metadata={},
    )


def _random(blueprint: Mapping[str, Shape], seed: int, part: str) -> dict[str, Tensor]:
    return {name: _tensor(name, shape, seed, part) for name, shape in blueprint.items()}


def _tensor(name: str, shape: Shape, seed: int, part: str) -> Tensor:
    if len(shape) == 1:
        return torch.ones(shape) if name.endswith(".weight") else torch.zeros(shape)
    return normal(shape, seed, "random weights", part, name).div_(math.sqrt(math.prod(shape[1:])))
