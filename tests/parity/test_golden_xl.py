"""Stable Diffusion XL against recorded numbers (see tests/golden/xl/README.md), in float32 and in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.diffusion.objective import example_coefficients
from dreambooth.families.components import Components
from dreambooth.families.sdxl import StableDiffusionXL
from dreambooth.families.zero_padding import zero_padded
from dreambooth.runtime.precision import PrecisionPolicy
from dreambooth.runtime.processes import OneProcess
from dreambooth.sampling.sampler import decode, denoise, guided_prediction
from dreambooth.sampling.solvers import make_solver
from dreambooth.trainees.full import full_trainee
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.training.batches import Batch
from dreambooth.training.denoiser import Denoiser
from dreambooth.training.fused_adamw import FusedAdamW
from dreambooth.training.loop import StepResult, TrainingState, training_steps
from dreambooth.training.loss_scale import FixedLossScale
from dreambooth.training.settings import OptimizerSettings
from dreambooth.training.weight_average import NoAverage
from dreambooth.weights.read import read_model

Expected = Mapping[str, Tensor]

GOLDEN = Path(__file__).parents[1] / "golden" / "xl"
PROMPTS = (
    "photo of a sks container",
    "photo of a container",
    "photo of a sks container on the moon",
    "",
    "blurry, low quality",
)
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-9}  # L2, relative
CASES = {"unet": (False, 1.0), "unet_te": (True, 1.0), "unet_rw05": (False, 0.5)}


@pytest.fixture(scope="module")
def expected() -> Expected:
    return load_file(GOLDEN / "expected.safetensors")


@pytest.fixture(scope="module", autouse=True)
def sinusoids(golden_xl: Any) -> Iterator[None]:
    """The sinusoids of the recording, which are the same on every processor."""
    from diffusers.models import embeddings

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embeddings, "get_timestep_embedding", golden_xl.sinusoids)
        yield


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=["float32", "float64"])
def model(request: pytest.FixtureRequest, golden_xl_checkpoint: Path) -> Components:
    return build(golden_xl_checkpoint, request.param)


def build(checkpoint: Path, dtype: torch.dtype) -> Components:
    return read_model(str(checkpoint)).build(dtype=dtype)


def dtype_of(model: Components) -> torch.dtype:
    return next(model.denoiser.parameters()).dtype


def error(found: Tensor, recorded: Tensor) -> float:
    assert found.shape == recorded.shape
    return float((found.double() - recorded.double()).norm() / recorded.double().norm())


def conditioning(expected: Expected, dtype: torch.dtype) -> Conditioning:
    return Conditioning(expected["context"].to(dtype), expected["pooled"].to(dtype), expected["sizes"])


@torch.no_grad()
def test_both_encoders_read_the_caption_each_with_its_own_padding(model: Components, expected: Expected) -> None:
    ids = model.family.tokenize(model.tokenizer, PROMPTS)
    assert torch.equal(ids, expected["input_ids_1"])
    assert torch.equal(zero_padded(ids), expected["input_ids_2"])
    text = model.family.encode_text(model.parts, ids)
    assert text.pooled_BD is not None
    assert error(text.states_BLD, expected["context"]) < TOLERANCES[dtype_of(model)]
    assert error(text.pooled_BD, expected["pooled"]) < TOLERANCES[dtype_of(model)]


@torch.no_grad()
@pytest.mark.parametrize("name", ["eps", "eps_edges", "eps_wide"])
def test_predictions(model: Components, expected: Expected, name: str) -> None:
    dtype, is_wide = dtype_of(model), name == "eps_wide"
    x_t = expected["z_wide" if is_wide else "z_t"].to(dtype)
    text = conditioning(expected, dtype).index(slice(2, 3) if is_wide else slice(0, 2))
    t = expected["t_edges" if name == "eps_edges" else "t"][: len(x_t)]
    eps = model.family.predict(model.denoiser, x_t, t, text)
    assert error(eps, expected[name]) < TOLERANCES[dtype]


@torch.no_grad()
def test_decoding(model: Components, expected: Expected) -> None:
    pixels = model.family.decode_latents(model.vae, expected["z_0"][:1].to(dtype_of(model)))
    assert error(pixels, expected["recon"]) < (1e-4 if dtype_of(model) == torch.float32 else 1e-6)  # recorded in float32
    assert decode(model, expected["z_0"][:1]).shape == (1, 3, 64, 64)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (torch.float32, "euler_5_7.0_negative"),
        (torch.float64, "euler_5_1.0_none"),
        (torch.float64, "euler_5_5.0_zero"),
        (torch.float64, "euler_5_5.0_empty"),
        (torch.float64, "ddim_5_5.0_zero"),
    ],
    indirect=["model"],
)
def test_sampling(model: Components, expected: Expected, name: str) -> None:
    sampler, steps, scale, other = name.split("_")
    dtype = dtype_of(model)
    text = conditioning(expected, dtype)
    prompts, negative = text.map(lambda tensor: tensor[[0, 2]]), None
    if other != "none":
        row = 4 if other == "negative" else 3
        negative = text.map(lambda tensor: tensor[[row, row]])
        negative = (negative.map(torch.zeros_like) if other == "zero" else negative).with_sizes(expected["sizes"][[0, 2]])
    predict = guided_prediction(model, prompts, negative, scale=float(scale), dtype=dtype)
    solver = make_solver(sampler, model.family.schedule, int(steps), begins_last=True)  # type: ignore[arg-type]
    *_, final = denoise(solver, solver.start(expected["x_T"].to(dtype)), predict, lambda index: [])
    assert error(final.x_BCHW, expected[name]) < {torch.float32: 5e-4, torch.float64: 1e-9}[dtype]


@pytest.mark.parametrize(
    ("model", "case"),
    [(torch.float32, "unet_te"), (torch.float64, "unet"), (torch.float64, "unet_te"), (torch.float64, "unet_rw05")],
    indirect=["model"],
)
def test_three_steps_of_training(golden_xl_checkpoint: Path, expected: Expected, model: Components, case: str) -> None:
    """One forward pass over photo and class image stands against two, each with its own sizes."""
    dtype = dtype_of(model)
    state, results = trained(build(golden_xl_checkpoint, dtype), expected, case)
    tolerance = {torch.float32: 1e-4, torch.float64: 1e-9}[dtype]
    later = {torch.float32: 1e-3, torch.float64: 1e-9}[dtype]
    for result, losses in zip(results, expected[f"train_{case}_losses"].tolist(), strict=True):
        assert [result.instance_loss, result.prior_loss, result.loss] == pytest.approx(losses, rel=max(tolerance, 1e-7))
        norm = float(expected[f"train_{case}_norms"][result.step - 1])
        assert result.gradient_norm == pytest.approx(norm, rel=later)
    with torch.no_grad():
        family = state.denoiser.components.family
        text = family.encode_text(state.denoiser.components.parts, expected["input_ids_1"][:2])
        assert text.pooled_BD is not None
        assert error(text.pooled_BD, expected[f"train_{case}_after_pooled"]) < later
        eps = state.denoiser(expected["z_t"].to(dtype), expected["t"], text, expected["sizes"][:2])
    assert error(eps, expected[f"train_{case}_after_eps"]) < later


def trained(model: Components, expected: Expected, case: str) -> tuple[TrainingState, list[StepResult]]:
    trains_text, prior_weight = CASES[case]
    dtype, settings = dtype_of(model), OptimizerSettings(learning_rate=1e-5)
    trainee = full_trainee(model, TraineeSettings(train_text_encoder=trains_text), learning_rate=1e-5)
    frozen = Conditioning(expected["context"][:2].to(dtype), expected["pooled"][:2].to(dtype))

    def batches_at(step: int) -> Iterator[Batch]:
        is_prior = torch.tensor([False, True])
        yield Batch(
            x_0=expected["z_0"].to(dtype),
            eps=expected[f"train_{step - 1}_noise"].to(dtype),
            t_B=expected[f"train_{step - 1}_t"],
            text=expected["input_ids_1"][:2] if trains_text else frozen,
            is_prior_B=is_prior,
            coefficient_B=example_coefficients(is_prior, num_instances=1, num_priors=1, prior_weight=prior_weight),
            names=("photo", "class image"),
            sizes_B6=expected["sizes"][:2],
        )

    state = TrainingState(
        denoiser=Denoiser(model, PrecisionPolicy("fp32", "cpu")),
        optimizer=FusedAdamW(trainee, settings, total_steps=3, processes=OneProcess()),
        average=NoAverage(),
        loss_scale=FixedLossScale(),
        processes=OneProcess(),
    )
    with trainee.train_mode():
        return state, list(training_steps(state, batches_at, last_step=3))


def test_what_no_prediction_reads_is_not_trained(golden_xl_checkpoint: Path) -> None:
    """Weight decay would move the first encoder's last layer and final norm, which get no gradient."""
    model = build(golden_xl_checkpoint, torch.float32)
    trained = set(full_trainee(model, TraineeSettings(), learning_rate=1.0).parameters)
    every = {
        f"{part}.{name}" for part in ("unet", *model.family.text_encoders) for name, _ in model.parts[part].named_parameters()
    }
    idle = {name.removeprefix("text_encoder.").removeprefix("text_model.") for name in every - trained}
    assert idle == set(model.family.idle_parameters("text_encoder"))
    assert len(idle) == 18
    assert any("encoder.layers.1." in name for name in trained if name.startswith("text_encoder_2."))


Wrong = Callable[[StableDiffusionXL, Components, Expected], Conditioning]


def _sizes(order: list[int]) -> Wrong:
    return lambda _, model, expected: with_sizes(expected, expected["sizes"][:, order])


def with_sizes(expected: Expected, sizes: Tensor) -> Conditioning:
    return conditioning(expected, torch.float32).with_sizes(sizes)


def _ids(first: str, second: str) -> Wrong:
    def wrong(_: StableDiffusionXL, model: Components, expected: Expected) -> Conditioning:
        one = model.parts["text_encoder"](expected[first], output_hidden_states=True).hidden_states[-2]
        two = model.parts["text_encoder_2"](expected[second], output_hidden_states=True).hidden_states[-2]
        return replace(with_sizes(expected, expected["sizes"]), states_BLD=torch.cat([one, two], dim=-1))

    return wrong


def _normed(part: str, state: int, norms: bool) -> Wrong:
    """The states of encoder `part` from another layer, or with its final norm."""

    def wrong(_: StableDiffusionXL, model: Components, expected: Expected) -> Conditioning:
        states = {}
        for name, ids in (("text_encoder", "input_ids_1"), ("text_encoder_2", "input_ids_2")):
            module = model.parts[name]
            states[name] = module(expected[ids], output_hidden_states=True).hidden_states[state if name == part else -2]
            if norms and name == part:
                norm = next(inner for inner_name, inner in module.named_modules() if inner_name.endswith("final_layer_norm"))
                states[name] = norm(states[name])
        return replace(with_sizes(expected, expected["sizes"]), states_BLD=torch.cat(list(states.values()), dim=-1))

    return wrong


def _pooled(how: Callable[[Any, Tensor], Tensor]) -> Wrong:
    """A pooled vector made otherwise, from the second encoder's module and its states at the end tokens, layer by layer."""

    def wrong(_: StableDiffusionXL, model: Components, expected: Expected) -> Conditioning:
        module: Any = model.parts["text_encoder_2"]
        ids = expected["input_ids_2"]
        states = torch.stack(module(ids, output_hidden_states=True).hidden_states)
        at_end = states[:, torch.arange(len(ids)), ids.argmax(dim=1)]
        return replace(with_sizes(expected, expected["sizes"]), pooled_BD=how(module, at_end))

    return wrong


def _norm(module: Any, state: Tensor) -> Tensor:
    normed: Tensor = module.text_model.final_layer_norm(state)
    return normed


WRONG: Mapping[str, Wrong] = {
    "original size as (width, height)": _sizes([1, 0, 2, 3, 4, 5]),
    "crop as (left, top)": _sizes([0, 1, 3, 2, 4, 5]),
    "crop left at zero": lambda _, model, expected: with_sizes(
        expected, torch.cat([expected["sizes"][:, :2], torch.zeros(5, 2), expected["sizes"][:, 4:]], dim=1)
    ),
    "sizes left at zero": lambda _, model, expected: with_sizes(expected, torch.zeros(5, 6)),
    "pooled left zero": lambda _, model, expected: replace(
        with_sizes(expected, expected["sizes"]), pooled_BD=torch.zeros(5, 128)
    ),
    "encoders in the other order": lambda _, model, expected: replace(
        with_sizes(expected, expected["sizes"]),
        states_BLD=torch.cat([expected["context"][..., 64:], expected["context"][..., :64]], dim=-1).float(),
    ),
    "second encoder padded with 49407": _ids("input_ids_1", "input_ids_1"),
    "first encoder padded with 0": _ids("input_ids_2", "input_ids_2"),
    "final norm on the states of the second encoder": _normed("text_encoder_2", -2, norms=True),
    "final norm on the states of the first encoder": _normed("text_encoder", -2, norms=True),
    "last layer of the second encoder": _normed("text_encoder_2", -1, norms=True),
    "last layer of the first encoder": _normed("text_encoder", -1, norms=True),
    "projection not transposed": _pooled(lambda module, states: _norm(module, states[-1]) @ module.text_projection.weight),
    "projection left out": _pooled(lambda module, states: _norm(module, states[-1])),
    "pooled from the penultimate layer": _pooled(lambda module, states: module.text_projection(_norm(module, states[-2]))),
    "pooled without the final norm": _pooled(lambda module, states: module.text_projection(states[-1])),
}


@torch.no_grad()
@pytest.mark.parametrize("mistake", WRONG)
def test_each_known_mistake_shows_in_the_predictions(golden_xl_float32: Components, expected: Expected, mistake: str) -> None:
    """The recorded predictions tell each mistake of other programs apart: they would fail the tests above by far."""
    model = golden_xl_float32
    assert isinstance(model.family, StableDiffusionXL)
    text = WRONG[mistake](model.family, model, expected).index(slice(0, 2))
    eps = model.family.predict(model.denoiser, expected["z_t"].float(), expected["t"], text)
    assert error(eps, expected["eps"]) > 100 * TOLERANCES[torch.float32]


@torch.no_grad()
def test_mistakes_in_the_modules_show_too(golden_xl_checkpoint: Path, expected: Expected) -> None:
    """Quick GELU in the second encoder, a timestep off by one, and the sizes before the pooled vector."""
    model = build(golden_xl_checkpoint, torch.float32)
    family = model.family
    right = conditioning(expected, torch.float32).index(slice(0, 2))
    z_t, t = expected["z_t"].float(), expected["t"]
    assert error(family.predict(model.denoiser, z_t, t + 1, right), expected["eps"]) > 1e-2
    linear: Any = model.denoiser.get_submodule("add_embedding.linear_1")
    linear.weight.copy_(torch.cat([linear.weight[:, 1536:], linear.weight[:, :1536]], dim=1).clone())
    assert error(family.predict(model.denoiser, z_t, t, right), expected["eps"]) > 1e-2
    quick = replace(family, text_2=family.text_2)  # type: ignore[type-var]
    config = {**quick.parts["text_encoder_2"].config, "hidden_act": "quick_gelu"}
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModelWithProjection

    other = CLIPTextModelWithProjection(CLIPTextConfig.from_dict(config)).eval()
    other.load_state_dict(model.parts["text_encoder_2"].state_dict())
    text = family.encode_text({**model.parts, "text_encoder_2": other}, expected["input_ids_1"])
    assert error(text.states_BLD, expected["context"]) > 1e-3
