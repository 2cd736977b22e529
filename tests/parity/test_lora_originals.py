"""LoRA files of both forms, applied to miniatures, against float64 results of kohya's network and of diffusers with PEFT."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from dreambooth.weights.lora_apply import ScaledLora, with_loras
from dreambooth.weights.lora_file import LoraFile, read_lora_file
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_model
from tests.parity.originals import FOLDER, Recorded, encoded, predicted, relative, write

pytestmark = pytest.mark.slow

CLOSE = 1e-5  # in float32; the originals in float32 lie within 7e-6
FILES = ("kohya_lora", "kohya_locon", "peft_lora", "peft_lora_alpha8", "peft_dora")


@dataclass(frozen=True)
class Miniature:
    """A model and what the original programs recorded over it, without a LoRA and with each."""

    weights: ModelWeights
    recorded: Recorded
    results: Mapping[str, Tensor]
    every_nth: Mapping[str, int]

    def file(self, name: str) -> LoraFile:
        return read_lora_file(FOLDER / "lora" / self.recorded.model / f"{name}.safetensors")

    def error(self, name: str, found: Tensor) -> float:
        return relative(found.flatten()[:: self.every_nth.get(name, 1)], self.results[name].flatten())

    def results_of(self, file: LoraFile, strength: float) -> dict[str, Tensor]:
        """Predictions, and texts under their recorded names, of the model with a file."""
        model = with_loras(self.weights, [ScaledLora(file, strength)]).build(dtype=torch.float32)
        text = encoded(model, self.recorded)
        found = {"eps": predicted(model, self.recorded, text)}
        if self.recorded.model == "v1b":
            return {**found, "text_embeddings": text.states_BLD[:2]}
        assert text.pooled_BD is not None
        first, second = text.states_BLD[:2].split([64, 128], dim=-1)
        return {**found, "text_1_penultimate": first, "text_2_penultimate": second, "pooled": text.pooled_BD[:2]}


@pytest.fixture(scope="module", params=["v1b", "xl"])
def miniature(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Miniature]:
    recorded, path = Recorded.load(request.param), FOLDER / "lora" / f"{request.param}.safetensors"
    weights = read_model(str(write(request.param, tmp_path_factory.mktemp(request.param))))
    with safe_open(path, "pt") as file:
        every_nth = json.loads(file.metadata()["every_nth"])
    with recorded.sinusoids():
        yield Miniature(weights, recorded, load_file(path), every_nth)


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize("name", FILES)
def test_a_file_predicts_what_its_own_program_does(name: str, strength: float, miniature: Miniature) -> None:
    """At half strength the norms of a DoRA count as PEFT has them: the product is halved inside the norm."""
    found = miniature.results_of(miniature.file(name), strength)
    known = {text: f"{name}_{strength}_{text}" for text in found if f"{name}_{strength}_{text}" in miniature.results}
    assert known.keys() == ({"eps"} if name == "peft_dora" else found.keys())
    assert max(miniature.error(key, found[text]) for text, key in known.items()) < CLOSE


@pytest.mark.parametrize("name", ["kohya_lora", "kohya_locon"])
def test_the_changes_of_the_unet_alone(name: str, miniature: Miniature) -> None:
    file = miniature.file(name)
    unet = {layer: fields for layer, fields in file.layers.items() if layer.startswith("lora_unet_")}
    assert 0 < len(unet) < len(file.layers)
    found = miniature.results_of(replace(file, layers=unet), 1.0)
    assert miniature.error(f"{name}_1.0_eps_unet_only", found["eps"]) < CLOSE
