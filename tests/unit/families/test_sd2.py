"""The names of Stable Diffusion 2 in files, and what tells its prediction."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dreambooth.families.family import Family
from dreambooth.families.full_size import full_size_stable_diffusion_2
from dreambooth.families.open_clip_keys import SD2_TEXT_PREFIX, penultimate_keys
from dreambooth.families.prediction_probe import Probe, probe_prediction
from dreambooth.families.zero_padding import zero_padded
from dreambooth.toybox.files import EMBEDDED_MODEL
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_model


def layers(names: list[str]) -> set[str]:
    pairs = penultimate_keys([f"{SD2_TEXT_PREFIX}{name}" for name in names])
    return {pair.canonical.split(".")[2] for pair in pairs if pair.canonical.startswith("encoder.layers.")}


def test_the_last_layer_of_a_whole_text_encoder_is_not_used() -> None:
    whole = [f"transformer.resblocks.{layer}.ln_1.weight" for layer in range(24)]
    assert layers(whole) == {str(layer) for layer in range(23)}
    small = [f"transformer.resblocks.{layer}.ln_1.weight" for layer in range(4)]
    assert layers([*small, "text_projection"]) == layers([*small, "logit_scale"]) == {"0", "1", "2"}


def test_a_file_made_from_a_folder_has_only_used_layers() -> None:
    """Converters of diffusers write what the folder has: 23 layers, no projection and no scale."""
    assert layers([f"transformer.resblocks.{layer}.ln_1.weight" for layer in range(23)]) == {str(n) for n in range(23)}


def test_padding_is_zero_after_the_first_end_token() -> None:
    ids = torch.tensor([[49406, 320, 0, 49407, 49407, 49407], [49406, 49407, 49407, 49407, 49407, 49407]])
    assert zero_padded(ids).tolist() == [[49406, 320, 0, 49407, 0, 0], [49406, 49407, 0, 0, 0, 0]]


class _OfTheVelocity:
    """A family that answers with the velocity behind the noise that another one predicts."""

    def __init__(self, other: Family) -> None:
        self.other = other

    def __getattr__(self, name: str) -> Any:
        return getattr(self.other, name)

    def predict(self, denoiser: Any, x_t: Tensor, t_B: Tensor, conditioning: Any) -> Tensor:
        eps = self.other.predict(denoiser, x_t, t_B, conditioning)
        alpha_bar = float(self.other.schedule.alpha_bar_T[t_B[0]])
        return (eps - (1 - alpha_bar) ** 0.5 * x_t) / alpha_bar**0.5


def test_a_trained_network_shows_what_it_predicts() -> None:
    """The bundled model predicts the noise; seen as one of the velocity, it answers with the negative image."""
    toybox = read_model(EMBEDDED_MODEL)
    found = probe_prediction(toybox.family, toybox.parts["unet"])
    assert found.prediction == "epsilon"
    assert found.last > 0.95
    other = probe_prediction(_OfTheVelocity(toybox.family), toybox.parts["unet"])  # type: ignore[arg-type]
    assert other.prediction == "velocity"
    assert other.early > 0.7


def test_an_untrained_network_shows_nothing(golden_v2: ModelWeights) -> None:
    """At the last timestep, its answer is as unlike the noise as the velocity is."""
    found = probe_prediction(golden_v2.family, golden_v2.parts["unet"])
    assert abs(found.last) < 0.5 and found.prediction is None


@pytest.mark.parametrize(
    ("last", "early", "prediction"),
    [
        (0.97, 0.9, "epsilon"),
        (-0.2, 0.9, "velocity"),
        (0.65, 0.9, None),
        (-0.9, 0.9, None),
        (0.97, 0.1, None),
        (0.0, -0.1, None),
    ],
)
def test_answers_like_neither_are_no_prediction(last: float, early: float, prediction: str | None) -> None:
    assert Probe(last, early).prediction == prediction


def test_the_measurement_is_said() -> None:
    said = "its answer to noise has a similarity of 0.65 to it at the last timestep and 0.90 early on"
    assert Probe(0.65, 0.9).text == said


def test_the_published_model_has_the_published_numbers() -> None:
    """UNet 865.9 million parameters; OpenCLIP-H 354.0 million, of which 340.4 million are in the layers that are used."""
    family = full_size_stable_diffusion_2()
    count = {name: sum(map(math.prod, part.blueprint.values())) for name, part in family.parts.items()}
    assert count == {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840}
    text = family.parts["text_encoder"]
    assert sum(map(math.prod, text.unused.values())) == 354_032_641 - 340_387_840
    assert {pair.canonical for pair in text.keys} == {*text.blueprint, *text.unused}
    assert family.parts["unet"].config["attention_head_dim"] == [5, 10, 20, 20]
    assert family.parts["text_encoder"].config["num_attention_heads"] == 16


def test_both_kinds_are_called_as_other_programs_call_them(golden_v2: ModelWeights) -> None:
    family = golden_v2.family
    base = family.with_prediction("epsilon", has_zero_terminal_snr=False)
    assert (base.architecture, base.usual_resolution) == ("stable-diffusion-v2-512", 512)
    assert (family.architecture, family.usual_resolution) == ("stable-diffusion-v2-768-v", 768)
