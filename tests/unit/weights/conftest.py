"""A model of 0.4 million parameters, under canonical names and as the tensors of a checkpoint of the original program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from dreambooth.families.blueprints import text_blueprint, unet_blueprint, vae_blueprint
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.shapes import Shape, TextShape, UNetShape, VaeShape
from dreambooth.weights.model_weights import ModelWeights, ReadingReport
from dreambooth.weights.write import write_single_file

Tensors = dict[str, Tensor]

TINY = StableDiffusion1(
    UNetShape(4, 4, (32, 64), 1, (1, 0), 1, 64, False), VaeShape(3, 4, (32, 64), 1), TextShape(100, 77, 64, 96, 2)
)


def random_tensors(blueprint: dict[str, Shape], seed: int) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in blueprint.items()}


@pytest.fixture(scope="session")
def tiny() -> ModelWeights:
    """The tiny model in float32."""
    report = ReadingReport(Path("tiny"), "single file", (), TINY.title, (), "only")
    unet, vae, text = unet_blueprint(TINY.unet), vae_blueprint(TINY.vae), text_blueprint(TINY.text)
    return ModelWeights(
        TINY,
        {"unet": random_tensors(unet, 1), "vae": random_tensors(vae, 2), "text_encoder": random_tensors(text, 3)},
        report,
        {},
    )


@pytest.fixture(scope="session")
def _written(tiny: ModelWeights, tmp_path_factory: pytest.TempPathFactory) -> Tensors:
    path = tmp_path_factory.mktemp("tiny") / "tiny.ckpt"
    write_single_file(path, tiny, dtype=None, metadata={})
    state_dict: Tensors = torch.load(path, weights_only=True)["state_dict"]
    return state_dict


@pytest.fixture
def checkpoint(_written: Tensors) -> Tensors:
    """The tiny model's tensors under the original's names, for a test to change."""
    return dict(_written)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Tensors], Path]:
    """Write tensors as model.safetensors."""

    def save(tensors: Tensors) -> Path:
        path = tmp_path / "model.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
        return path

    return save
