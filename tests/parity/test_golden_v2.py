"""Stable Diffusion 2 against what the original code computed, and the mistakes that its recorded numbers catch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.diffusion.objective import squared_error
from dreambooth.diffusion.prediction import training_target
from dreambooth.diffusion.schedule import add_noise
from dreambooth.families.components import Components
from dreambooth.families.sd2 import StableDiffusion2
from dreambooth.sampling.sampler import denoise, guided_prediction
from dreambooth.sampling.solvers import DdimSolver
from dreambooth.weights.model_weights import ModelWeights

Expected = Mapping[str, Tensor]

PROMPTS = ("photo of a sks container", "photo of a container", "photo of a sks container on the moon", "")
FORWARD = 1e-4
UNET, SAMPLING = 3e-4, 1e-2
"""The recorded numbers are float32, and the random UNet amplifies rounding: its output is 1.4e-4 from that in float64."""


def error(found: Tensor, expected: Tensor) -> float:
    """The L2 norm of the difference over that of the expected numbers."""
    assert found.shape == expected.shape
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.fixture(scope="module")
def built(golden_v2: ModelWeights) -> Components:
    return golden_v2.build(dtype=torch.float32)


@pytest.fixture(scope="module")
def exact(golden_v2: ModelWeights) -> Components:
    return golden_v2.build(dtype=torch.float64)


def output(
    components: Components, expected: Expected, text_BLD: Tensor | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    text_BLD = expected["text_embeddings"] if text_BLD is None else text_BLD
    z_t, t = expected["z_t"].to(dtype), expected["t"]
    with torch.no_grad():
        return components.family.predict(components.denoiser, z_t, t, Conditioning(text_BLD[: len(t)].to(dtype)))


def test_the_model_is_what_its_yaml_says(golden_v2: ModelWeights) -> None:
    family = golden_v2.family
    assert isinstance(family, StableDiffusion2)
    assert (family.prediction, family.architecture, family.usual_resolution) == ("velocity", "stable-diffusion-v2-768-v", 768)
    assert family.text.num_layers == 3
    assert golden_v2.report.leftover == ()
    assert "model.params.parameterization v" in golden_v2.report.prediction


@torch.no_grad()
def test_tokens_and_text_states(built: Components, exact: Components, golden_v2_expected: Expected) -> None:
    input_ids = built.family.tokenize(built.tokenizer, PROMPTS)
    assert torch.equal(input_ids, golden_v2_expected["input_ids"])
    for components in (built, exact):
        states = components.family.encode_text(components.parts, input_ids).states_BLD
        assert error(states, golden_v2_expected["text_embeddings"]) < FORWARD


@torch.no_grad()
def test_latents(built: Components, golden_v2_expected: Expected) -> None:
    moments = built.family.encode_pixels(built.vae, golden_v2_expected["image"])
    assert error(moments.mean, golden_v2_expected["vae_mean"]) < FORWARD
    assert error(moments.mean * built.family.scaling_factor, golden_v2_expected["latent"]) < FORWARD


def test_target_output_and_loss(built: Components, exact: Components, golden_v2_expected: Expected) -> None:
    x_0, eps, t_B = (golden_v2_expected[name] for name in ("latent", "noise", "t"))
    schedule = built.family.schedule
    assert error(schedule.alpha_bar_T, golden_v2_expected["alphas_cumprod"]) < FORWARD
    assert error(add_noise(schedule, x_0, eps, t_B), golden_v2_expected["z_t"]) < FORWARD
    target = training_target(built.family.prediction, schedule, x_0, eps, t_B)
    assert error(target, golden_v2_expected["target"]) < FORWARD
    for components, dtype in ((built, torch.float32), (exact, torch.float64)):
        found = output(components, golden_v2_expected, dtype=dtype)
        assert error(found, golden_v2_expected["model_output"]) < UNET
        assert float(squared_error(found, target).mean()) == pytest.approx(float(golden_v2_expected["loss"]), rel=UNET)


@torch.no_grad()
@pytest.mark.parametrize(("steps", "scale"), [pytest.param(50, 9.0, marks=pytest.mark.slow), (20, 7.5)])
def test_ddim(built: Components, golden_v2_expected: Expected, steps: int, scale: float) -> None:
    text = Conditioning(golden_v2_expected["text_embeddings"])
    prompts = Conditioning.concatenate([text.index(slice(0, 1)), text.index(slice(2, 3))])
    predict = guided_prediction(built, prompts, text.index(slice(3, 4)), scale=scale, dtype=torch.float32)
    solver = DdimSolver(built.family.schedule, steps, prediction=built.family.prediction)
    *_, final = denoise(solver, golden_v2_expected["x_T"], predict, lambda _: ())
    assert error(final.x_BCHW, golden_v2_expected[f"ddim_{steps}_{scale}"]) < SAMPLING


def _text_mistake(golden_v2: ModelWeights, expected: Expected, change: Callable[[Any], Any]) -> float:
    module = golden_v2.family.new_module("text_encoder")
    module.load_state_dict(golden_v2.build(dtype=torch.float32).parts["text_encoder"].state_dict())
    with torch.no_grad():
        return error(change(module.eval()), expected["text_embeddings"])


def _with_other_activation(text: Any, expected: Expected) -> Tensor:
    from transformers.activations import QuickGELUActivation

    for layer in text.encoder.layers:
        layer.mlp.activation_fn = QuickGELUActivation()
    states: Tensor = text(expected["input_ids"]).last_hidden_state
    return states


def _with_end_padding(text: Any, expected: Expected) -> Tensor:
    ids = expected["input_ids"].clone()
    after_end = (ids == 49407).cumsum(dim=1) > 0
    states: Tensor = text(torch.where(after_end, 49407, ids)).last_hidden_state
    return states


def _without_final_norm(text: Any, expected: Expected) -> Tensor:
    states: Tensor = text(expected["input_ids"], output_hidden_states=True).hidden_states[-1]
    return states


def _one_layer_less(text: Any, expected: Expected) -> Tensor:
    hidden = text(expected["input_ids"], output_hidden_states=True).hidden_states[-2]
    states: Tensor = text.final_layer_norm(hidden)
    return states


@pytest.mark.parametrize(
    "mistake",
    [_with_other_activation, _with_end_padding, _without_final_norm, _one_layer_less],
    ids=lambda mistake: mistake.__name__,
)
def test_mistakes_in_the_text_encoder_show(
    golden_v2: ModelWeights, golden_v2_expected: Expected, mistake: Callable[[Any, Expected], Tensor]
) -> None:
    found = _text_mistake(golden_v2, golden_v2_expected, lambda text: mistake(text, golden_v2_expected))
    assert found > 10 * FORWARD


def test_the_last_layer_shows(golden_v2: ModelWeights, golden_v2_expected: Expected) -> None:
    """As in Stable Diffusion 1, where the last layer is used."""
    text = golden_v2.parts["text_encoder"]
    last = f"encoder.layers.{golden_v2.family.text.num_layers}."  # type: ignore[attr-defined]
    whole = {name: tensor for name, tensor in text.items() if not name.startswith("unused.")}
    whole |= {
        last + name.removeprefix("unused."): tensor
        for name, tensor in text.items()
        if name.startswith(("unused.layer", "unused.self", "unused.mlp"))
    }
    family: Any = golden_v2.family
    larger = replace(family, text=replace(family.text, num_layers=family.text.num_layers + 1))
    built = larger.build({**golden_v2.parts, "text_encoder": whole}, dtype=torch.float32)
    with torch.no_grad():
        states = larger.encode_text(built, golden_v2_expected["input_ids"]).states_BLD
    assert error(states, golden_v2_expected["text_embeddings"]) > 1000 * FORWARD


def test_other_mistakes_show(built: Components, golden_v2_expected: Expected) -> None:
    text = golden_v2_expected["text_embeddings"]
    assert error(output(built, golden_v2_expected, text.flip(0)[2:]), golden_v2_expected["model_output"]) > 10 * UNET
    late = {**golden_v2_expected, "t": golden_v2_expected["t"] + 1}
    assert error(output(built, late), golden_v2_expected["model_output"]) > 10 * UNET
    x_0, eps = golden_v2_expected["latent"], golden_v2_expected["noise"]
    assert error(eps, golden_v2_expected["target"]) > 1000 * FORWARD
    assert (
        error(
            -training_target("velocity", built.family.schedule, x_0, eps, golden_v2_expected["t"]), golden_v2_expected["target"]
        )
        > 1
    )


def test_heads_of_another_width_show(golden_v2: ModelWeights, golden_v2_expected: Expected) -> None:
    """Stable Diffusion 1 has eight heads at every level."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    eight = UNet2DConditionModel.from_config({**golden_v2.family.parts["unet"].config, "attention_head_dim": 8})
    eight.load_state_dict(golden_v2.build(dtype=torch.float32).denoiser.state_dict())
    found = output(Components(golden_v2.family, {"unet": eight.eval()}, None), golden_v2_expected)
    assert error(found, golden_v2_expected["model_output"]) > 10 * UNET


def test_sampling_as_if_it_were_noise_shows(built: Components, golden_v2_expected: Expected) -> None:
    text = Conditioning(golden_v2_expected["text_embeddings"])
    prompts = Conditioning.concatenate([text.index(slice(0, 1)), text.index(slice(2, 3))])
    predict = guided_prediction(built, prompts, text.index(slice(3, 4)), scale=7.5, dtype=torch.float32)
    *_, final = denoise(DdimSolver(built.family.schedule, 20), golden_v2_expected["x_T"], predict, lambda _: ())
    assert error(final.x_BCHW, golden_v2_expected["ddim_20_7.5"]) > 0.1
