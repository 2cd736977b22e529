"""LoRA files as diffusers reads them: its predictions with a file are those of the model that the file was applied to here.

The recorded predictions of kohya's own network agree with this loader to 5e-15, so it stands for both programs.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dreambooth.diffusion.randomness import normal
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.trainees.choice import make_trainee
from dreambooth.trainees.settings import LoraForm, TraineeSettings
from dreambooth.weights.lora_apply import ScaledLora, with_loras
from dreambooth.weights.lora_file import read_lora_file
from dreambooth.weights.lora_write import Adapter, write_lora
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.products import WholeModel
from tests.lora_changes import random_changes
from tests.random_weights import random_model

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def loader() -> Iterator[Any]:
    """The loaders of diffusers; they need peft, which prints while it is imported."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers.loaders import lora_pipeline

        yield lora_pipeline
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def model(miniature: StableDiffusion1) -> ModelWeights:
    return random_model(miniature, seed=0)


def _predictions(parts: dict[str, Any], model: ModelWeights) -> Tensor:
    family = model.family
    ids = family.tokenize(family.load_tokenizer(), ["a sks dog", "a dog"])
    x_BCHW = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        text = family.encode_text(parts, ids)
        text = text.with_sizes(torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2)) if family.takes_sizes else text
        return family.predict(parts["unet"], x_BCHW, torch.tensor([50, 700]), text)


def _load(path: Path, parts: dict[str, Any], loader: Any, encoders: Iterable[str]) -> None:
    """As diffusers' own pipelines load a file."""
    state, alphas, metadata = loader.lora_state_dict(str(path), unet_config=parts["unet"].config, return_lora_metadata=True)
    options = {"network_alphas": alphas, "adapter_name": "rex", "metadata": metadata}
    loader.load_lora_into_unet(state, unet=parts["unet"], **options)
    for encoder in encoders:
        loader.load_lora_into_text_encoder(state, text_encoder=parts[encoder], prefix=encoder, **options)


@pytest.mark.parametrize(
    ("form", "targets"), [("kohya", "attention"), ("kohya", "all"), ("peft", "attention"), ("peft", "all"), ("peft", "DoRA")]
)
def test_diffusers_predicts_the_same(form: LoraForm, targets: Any, loader: Any, model: ModelWeights, tmp_path: Path) -> None:
    """Norms are read in PEFT's names and for the UNet alone: diffusers drops those of kohya's form, with a warning."""
    path = tmp_path / "rex.safetensors"
    changes = random_changes(model, "attention" if targets == "DoRA" else targets, has_norms=targets == "DoRA")
    if targets == "DoRA":
        changes = {"unet": changes["unet"]}
    write_lora(path, Adapter(model.family, changes, form), dtype=torch.float32, metadata={})
    expected = _predictions(dict(with_loras(model, [ScaledLora(read_lora_file(path))]).build(dtype=torch.float32).parts), model)
    parts = dict(model.build(dtype=torch.float32).parts)
    before = _predictions(parts, model)
    _load(path, parts, loader.StableDiffusionLoraLoaderMixin, changes.keys() - {"unet"})
    found = _predictions(parts, model)
    assert (expected - before).norm() > 0.1 * before.norm()
    assert (found - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("form", ["kohya", "peft"])
@pytest.mark.parametrize("name", ["miniature", "miniature_xl"])
def test_diffusers_predicts_what_a_trained_model_does(
    name: str, form: LoraForm, loader: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The trainee as it stands after training, its file, and a fresh model with the file in diffusers."""
    model, path = random_model(request.getfixturevalue(name), seed=0), tmp_path / "rex.safetensors"
    trained = model.build(dtype=torch.float32)
    settings = TraineeSettings(trainee="lora", rank=3, alpha=2.0, targets="all", lora_form=form)
    trainee = make_trainee(trained, settings, learning_rate=1e-4, dtype=torch.float32, seed=0)
    before = _predictions(dict(trained.parts), model)
    with torch.no_grad():
        for key, parameter in trainee.parameters.items():
            if key.endswith(".up"):
                parameter.copy_(0.2 * normal(parameter.shape, 1, key))
    expected = _predictions(dict(trained.parts), model)
    assert (expected - before).norm() > 0.1 * before.norm()
    trainee.product(WholeModel(model), gather=dict).write(path, dtype=torch.float32, metadata={})
    parts = dict(model.build(dtype=torch.float32).parts)
    mixin = loader.StableDiffusionXLLoraLoaderMixin if name == "miniature_xl" else loader.StableDiffusionLoraLoaderMixin
    _load(path, parts, mixin, model.family.text_encoders)
    assert (_predictions(parts, model) - expected).norm() < 1e-5 * expected.norm()
