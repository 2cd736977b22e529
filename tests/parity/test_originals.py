"""Stable Diffusion 1 and XL against everything that the original programs recorded in float64, and the mistakes that show.

The tolerances are those of the recordings' README: in float32 the originals themselves lie within a tenth of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.diffusion.objective import example_coefficients
from dreambooth.diffusion.schedule import add_noise
from dreambooth.families.components import Components
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
from tests.parity.originals import Recorded, build, dtype_of, encoded, predicted, relative, under_original_names, write

pytestmark = pytest.mark.slow  # the miniatures of the families are compared in every run

F32, F64 = torch.float32, torch.float64
CLOSE = {F32: 1e-4, F64: 1e-9}
AFTER_TRAINING = {F32: 1e-3, F64: 1e-9}
IN_FLOAT32 = 1e-6  # what is recorded in float32, or by constants in it, whatever it is compared with
RATES = {("v1b", "unet"): 1e-4, ("v1b", "unet_te"): 1e-5, ("v1b", "unet_rw05"): 1e-4}


@pytest.fixture(scope="module", params=["v1b", "xl"])
def recorded(request: pytest.FixtureRequest) -> Iterator[Recorded]:
    recording = Recorded.load(request.param)
    with recording.sinusoids():
        yield recording


@pytest.fixture(scope="module")
def file(recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(recorded.model, tmp_path_factory.mktemp(recorded.model))


@pytest.fixture(scope="module", params=[F32, F64], ids=["float32", "float64"])
def model(request: pytest.FixtureRequest, file: Path) -> Components:
    return build(file, request.param)


@torch.no_grad()
def test_texts(recorded: Recorded, model: Components) -> None:
    ids, close = model.family.tokenize(model.tokenizer, recorded.prompts), CLOSE[dtype_of(model)]
    text = encoded(model, recorded)
    if recorded.model == "v1b":
        assert torch.equal(ids, recorded["input_ids"])
        assert recorded.error("text_embeddings", text.states_BLD) < close
        return
    assert torch.equal(ids, recorded["input_ids_1"]) and torch.equal(zero_padded(ids), recorded["input_ids_2"])
    assert text.pooled_BD is not None
    first, second = text.states_BLD.split([64, 128], dim=-1)
    found = {"context": text.states_BLD, "pooled": text.pooled_BD, "text_1_penultimate": first, "text_2_penultimate": second}
    assert max(recorded.error(name, tensor) for name, tensor in found.items()) < close


@torch.no_grad()
def test_the_autoencoder(recorded: Recorded, model: Components) -> None:
    dtype, family = dtype_of(model), model.family
    close = CLOSE[dtype]
    moments = family.encode_pixels(model.vae, recorded["image"].to(dtype))
    assert recorded.error("vae_mean", moments.mean) < close
    assert recorded.error("vae_logvar", 2 * moments.deviation.log()) < close
    drawn = moments.mean + moments.deviation * recorded["vae_noise"][:1].to(dtype)
    assert recorded.error("latent_sampled", family.scaling_factor * drawn) < close
    latent = recorded["latent"][:1].to(dtype)
    assert relative(family.scaling_factor * moments.mean, latent) < close
    assert recorded.error("recon", family.decode_latents(model.vae, latent)) < max(close, IN_FLOAT32)


def test_noising(recorded: Recorded, model: Components) -> None:
    schedule, dtype = model.family.schedule, dtype_of(model)
    clean = recorded["z_0" if recorded.model == "xl" else "latent"].to(dtype)
    assert relative(schedule.alpha_bar_T, recorded["alphas_cumprod"]) < 1e-9
    assert relative(add_noise(schedule, clean, recorded["noise"].to(dtype), recorded["t"]), recorded["z_t"]) < CLOSE[dtype]


def test_predictions(recorded: Recorded, model: Components) -> None:
    text, close = encoded(model, recorded), CLOSE[dtype_of(model)]
    assert recorded.error("eps", predicted(model, recorded, text)) < close
    assert recorded.error("eps_edges", predicted(model, recorded, text, t="t_edges")) < close
    third = text.index(slice(2, 3))
    assert recorded.error("eps_wide", predicted(model, recorded, third, x_t="z_wide")) < close


@torch.no_grad()
def test_the_added_vector(recorded: Recorded, model: Components) -> None:
    """The pooled text, then six sinusoids: what the UNet is told beside the states."""
    if not model.family.takes_sizes:
        assert encoded(model, recorded).pooled_BD is None
        return
    seen: list[Tensor] = []
    layer = model.denoiser.get_submodule("add_embedding")
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    text, t = encoded(model, recorded), recorded["t"][:1].expand(5)
    model.family.predict(model.denoiser, recorded["z_t"][:1].to(dtype_of(model)).expand(5, -1, -1, -1), t, text)
    hook.remove()
    assert recorded.error("vector", seen[0]) < CLOSE[dtype_of(model)]


SAMPLINGS = (
    ("v1b", F32, "ddim_20_7.5"),
    *(("v1b", F64, f"ddim_{name}") for name in ("20_7.5", "20_1.0", "50_10.0")),
    ("v1b", F32, "ddim_100_10.0"),
    ("xl", F32, "euler_20_7.0_negative"),
    *(("xl", F64, f"euler_20_{name}") for name in ("1.0_none", "5.0_zero", "5.0_empty")),
    *(("xl", F64, f"ddim_20_{name}") for name in ("1.0_none", "5.0_zero")),
)


@pytest.mark.parametrize(("recorded", "model", "name"), SAMPLINGS, indirect=["recorded", "model"])
def test_sampling(recorded: Recorded, model: Components, name: str) -> None:
    sampler, steps, scale, *other = name.split("_")
    dtype, text = dtype_of(model), encoded(model, recorded)
    prompts, negative = text.map(lambda tensor: tensor[[0, 2]]), None
    if scale != "1.0":
        row = 4 if other == ["negative"] else 3
        negative = text.map(lambda tensor: tensor[[row, row]])
        negative = negative.map(torch.zeros_like) if other == ["zero"] else negative
        negative = negative if prompts.sizes_B6 is None else negative.with_sizes(prompts.sizes_B6)
    predict = guided_prediction(model, prompts, negative, scale=float(scale), dtype=dtype)
    solver = make_solver(sampler, model.family.schedule, int(steps), begins_last=model.family.begins_last)  # type: ignore[arg-type]
    *_, final = denoise(solver, solver.start(recorded["x_T"].to(dtype)), predict, lambda index: [])
    close = {F32: 5e-4, F64: IN_FLOAT32 if sampler == "ddim" else 1e-9}[dtype]
    assert recorded.error(name, final.x_BCHW) < close
    if f"{name}_image" in recorded.tensors:
        assert recorded.error(f"{name}_image", decode(model, final.x_BCHW)) < max(close, 1e-4)  # decoded in float32


TRAININGS = (
    ("v1b", F64, "unet_te"),
    *(("v1b", F64, case) for case in ("unet", "unet_rw05")),
    ("v1b", F32, "unet"),
    *(("xl", F64, case) for case in ("unet", "unet_te", "unet_rw05")),
    ("xl", F32, "unet_te"),
)


@pytest.mark.parametrize(("recorded", "dtype", "case"), TRAININGS, indirect=["recorded"])
def test_three_steps_of_training(recorded: Recorded, file: Path, dtype: torch.dtype, case: str) -> None:
    """One forward pass over photo and class image stands against two."""
    model = build(file, dtype)
    before = under_original_names(model, lambda part, name, weight: weight.detach().clone())
    first_gradients, results = trained(model, recorded, case)
    later = AFTER_TRAINING[dtype]
    for step, result in enumerate(results):
        losses = recorded[f"train_{case}_losses"][step].tolist()
        assert [result.instance_loss, result.prior_loss, result.loss] == pytest.approx(losses, rel=max(CLOSE[dtype], 1e-7))
        assert result.gradient_norm == pytest.approx(float(recorded[f"train_{case}_{step}_gradnorm"]), rel=max(later, 1e-7))
    text = encoded(model, recorded)
    assert recorded.error(f"train_{case}_after_eps", predicted(model, recorded, text)) < later
    for name, states in (("text", text.states_BLD), ("context", text.states_BLD)):
        if f"train_{case}_after_{name}" in recorded.tensors:
            assert recorded.error(f"train_{case}_after_{name}", states[:2]) < later
    if dtype == F64:
        after = under_original_names(model, lambda part, name, weight: weight.detach())
        check_each_tensor(recorded, case, first_gradients, {name: after[name] - before[name] for name in after})


def check_each_tensor(recorded: Recorded, case: str, gradients: dict[str, Tensor], changes: dict[str, Tensor]) -> None:
    """The gradients of the first step and the changes after three, of every tensor that was recorded."""
    compared = 0
    for short, name in recorded.trained_names.items():
        for kind, found in (("0_grad", gradients), ("delta", changes)):
            if f"train_{case}_{kind}_{short}" in recorded.tensors:
                assert recorded.error(f"train_{case}_{kind}_{short}", found[name]) < IN_FLOAT32, (kind, name)
                compared += 1
    assert compared >= 5
    parts = {"unet": "model.diffusion_model.", "text": "cond_stage_model."}
    parts |= {"te1": "conditioner.embedders.0.", "te2": "conditioner.embedders.1."}
    for short, prefix in parts.items():
        if (norm := recorded.tensors.get(f"train_{case}_0_gradnorm_{short}")) is not None:
            found = torch.stack([tensor.norm() for name, tensor in gradients.items() if name.startswith(prefix)]).norm()
            assert float(found) == pytest.approx(float(norm), rel=IN_FLOAT32)
    if f"train_{case}_0_grad_token_rows" in recorded.tensors:
        table = gradients["cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"]
        assert recorded.error(f"train_{case}_0_grad_token_rows", table[recorded["token_rows"]]) < IN_FLOAT32


def trained(model: Components, recorded: Recorded, case: str) -> tuple[dict[str, Tensor], list[StepResult]]:
    """The gradients of the first step under the names of the file, and the results of three."""
    trains_text, prior_weight = case == "unet_te", 0.5 if case == "unet_rw05" else 1.0
    dtype, rate = dtype_of(model), RATES.get((recorded.model, case), 1e-5)
    frozen, ids = encoded(model, recorded).index(slice(0, 2)), model.family.tokenize(model.tokenizer, recorded.prompts[:2])
    sizes = frozen.sizes_B6
    trainee = full_trainee(model, TraineeSettings(train_text_encoder=trains_text), learning_rate=rate)
    gradients: dict[str, Tensor] = {}

    def keep(name: str, weight: Tensor) -> None:
        assert weight.grad is not None
        gradients.setdefault(name, weight.grad.clone())

    for name, parameter in trainee.parameters.items():
        parameter.register_post_accumulate_grad_hook(partial(keep, name))  # type: ignore[no-untyped-call]

    def batches_at(step: int) -> Iterator[Batch]:
        is_prior = torch.tensor([False, True])
        yield Batch(
            x_0=recorded["z_0" if recorded.model == "xl" else "latent"].to(dtype),
            eps=recorded[f"train_{step - 1}_noise"].to(dtype),
            t_B=recorded[f"train_{step - 1}_t"],
            text=ids if trains_text else Conditioning(frozen.states_BLD, frozen.pooled_BD),
            is_prior_B=is_prior,
            coefficient_B=example_coefficients(is_prior, num_instances=1, num_priors=1, prior_weight=prior_weight),
            names=("photo", "class image"),
            sizes_B6=sizes,
        )

    state = TrainingState(
        denoiser=Denoiser(model, PrecisionPolicy("fp32", "cpu")),
        optimizer=FusedAdamW(trainee, OptimizerSettings(learning_rate=rate), total_steps=3, processes=OneProcess()),
        average=NoAverage(),
        loss_scale=FixedLossScale(),
        processes=OneProcess(),
    )
    with trainee.train_mode():
        results = list(training_steps(state, batches_at, last_step=3))
    named = under_original_names(
        model, lambda part, name, weight: gradients.get(f"{part}.{name}", torch.zeros_like(weight)).detach()
    )
    return named, results


def _states(change: Callable[[Any, Any], Any]) -> Callable[[Components, Recorded], Conditioning]:
    """Text states made otherwise from the text model's module and its output."""

    def wrong(model: Components, recorded: Recorded) -> Conditioning:
        module: Any = model.parts["text_encoder"]
        return Conditioning(change(module, module(recorded["input_ids"], output_hidden_states=True)))

    return wrong


def _swapped(model: Components, recorded: Recorded) -> Conditioning:
    return encoded(model, recorded).map(lambda tensor: tensor[[1, 0]])


def _gelu(model: Components, recorded: Recorded) -> Conditioning:
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    config = {**model.family.parts["text_encoder"].config, "hidden_act": "gelu"}
    other = CLIPTextModel(CLIPTextConfig.from_dict(config)).to(dtype_of(model)).eval()
    other.load_state_dict(model.parts["text_encoder"].state_dict())
    return encoded(replace(model, parts={**model.parts, "text_encoder": other}), recorded)


MISTAKES = {
    "eps: texts swapped": _swapped,
    "eps: no final layer norm in the text model": _states(lambda text, output: output.hidden_states[-1]),
    "text: GELU instead of quick_gelu": _gelu,
    "text: last layer left out (clip skip 2)": _states(lambda text, output: text.final_layer_norm(output.hidden_states[-2])),
    "eps: clip skip 2": _states(lambda text, output: text.final_layer_norm(output.hidden_states[-2])),
}


@torch.no_grad()
@pytest.mark.parametrize(("recorded", "model"), [("v1b", F32)], indirect=True)
def test_each_known_mistake_has_the_recorded_size(recorded: Recorded, model: Components) -> None:
    """So that each would fail the tests above, by sixty times the tolerance and more."""
    text = encoded(model, recorded)
    eps = predicted(model, recorded, text)
    later = model.family.predict(model.denoiser, recorded["z_t"].float(), recorded["t"] + 1, text.index(slice(0, 2)))
    found = {"eps: t off by one": recorded.error("eps", later)}
    for name, mistake in MISTAKES.items():
        wrong = mistake(model, recorded)
        found[name] = (
            recorded.error("text_embeddings", wrong.states_BLD)
            if name.startswith("text")
            else recorded.error("eps", predicted(model, recorded, wrong))
        )
        if "clip skip 2" in name:
            assert recorded.error("text_embeddings_clip_skip_2", wrong.states_BLD) < CLOSE[F32]
    assert recorded.error("eps", eps) < CLOSE[F32] < min(found.values()) / 60
    for name, size in recorded.wrong_answers.items():
        assert found[name] == pytest.approx(size, rel=0.05), name  # every so many-th element, not all
