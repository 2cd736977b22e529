"""LoRA files as diffusers reads them: its predictions with a file are those of the model that the file was applied to here.

The recorded predictions of kohya's own network agree with this loader to 5e-15, so it stands for both programs.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.trainees.settings import LoraForm
from dreambooth.weights.lora_apply import ScaledLora, with_loras
from dreambooth.weights.lora_file import read_lora_file
from dreambooth.weights.lora_write import Adapter, write_lora
from dreambooth.weights.model_weights import ModelWeights
from tests.lora_changes import random_changes
from tests.random_weights import random_model

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def loader() -> Iterator[Any]:
    """The loader of diffusers; it needs peft, which prints while it is imported."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin

        yield StableDiffusionLoraLoaderMixin
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def model(miniature: StableDiffusion1) -> ModelWeights:
    return random_model(miniature, seed=0)


def _predictions(parts: dict[str, Any], model: ModelWeights) -> Tensor:
    family = model.family
    ids = family.tokenize(family.load_tokenizer(), ["a sks dog", "a dog"])
    x_BCHW = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return family.predict(parts["unet"], x_BCHW, torch.tensor([50, 700]), family.encode_text(parts, ids))


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
    state, alphas, metadata = loader.lora_state_dict(str(path), unet_config=parts["unet"].config, return_lora_metadata=True)
    options = {"network_alphas": alphas, "adapter_name": "rex", "metadata": metadata}
    loader.load_lora_into_unet(state, unet=parts["unet"], **options)
    if "text_encoder" in changes:
        loader.load_lora_into_text_encoder(state, text_encoder=parts["text_encoder"], **options)
    found = _predictions(parts, model)
    assert (expected - before).norm() > 0.1 * before.norm()
    assert (found - expected).norm() < 1e-5 * expected.norm()
