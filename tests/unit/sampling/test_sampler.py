from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from dreambooth.diffusion.ddim import ddim_sigma
from dreambooth.diffusion.randomness import normal
from dreambooth.diffusion.timesteps import denoising_pairs
from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.families.components import Components
from dreambooth.sampling.batches import make_pictures
from dreambooth.sampling.placing import picture_dtype
from dreambooth.sampling.records import Picture, SamplingOptions
from dreambooth.sampling.sampler import check_size, decode, sample
from dreambooth.sampling.settings import Sampler

CPU = torch.device("cpu")
OPTIONS = SamplingOptions(sampler="ddim", steps=5, guidance_scale=7.5, height=64, width=128, seed=11)
PICTURES = [Picture("a dog", 0), Picture("a dog", 1), Picture("a cat on a mat", 1), Picture("a cat on a mat", 7)]


def final(
    components: Components, pictures: Sequence[Picture], options: SamplingOptions, dtype: torch.dtype = torch.float32
) -> Tensor:
    *_, state = sample(components, pictures, options, device=CPU, dtype=dtype)
    assert state.is_final
    return state.x_BCHW


@pytest.mark.parametrize("sampler", get_args(Sampler))
@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_a_picture_does_not_depend_on_its_batch(tiny: Components, sampler: Sampler, scale: float) -> None:
    options = replace(OPTIONS, sampler=sampler, guidance_scale=scale, eta=1.0 if sampler == "ddim" else 0.0)
    together = final(tiny, PICTURES, options)
    assert together.shape == (4, 4, 8, 16)
    for order in ([3], [2, 0], [3, 1, 0, 2]):
        some = final(tiny, [PICTURES[position] for position in order], options)
        torch.testing.assert_close(some, together[order], rtol=1e-5, atol=1e-5)


class AsVelocity:
    """A family that answers with the velocity behind the noise that another one predicts."""

    prediction = "velocity"

    def __init__(self, other: Any) -> None:
        self.other = other

    def __getattr__(self, name: str) -> Any:
        return getattr(self.other, name)

    def predict(self, unet: Any, x_t_BCHW: Tensor, t_B: Tensor, conditioning: Any) -> Tensor:
        eps_BCHW = self.other.predict(unet, x_t_BCHW, t_B, conditioning)
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        alpha_bar = torch.cumprod(1 - betas, dim=0).numpy()
        ratio = float(np.interp(float(t_B[0]), np.arange(1000), ((1 - alpha_bar) / alpha_bar) ** 0.5))
        alpha, sigma = 1 / (1 + ratio**2) ** 0.5, ratio / (1 + ratio**2) ** 0.5
        return (eps_BCHW - sigma * x_t_BCHW) / alpha


@pytest.mark.parametrize("sampler", get_args(Sampler))
@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_a_velocity_leads_every_sampler_where_its_noise_would(tiny: Components, sampler: Sampler, scale: float) -> None:
    options = replace(OPTIONS, sampler=sampler, guidance_scale=scale)
    expected = final(tiny, PICTURES, options)
    found = final(replace(tiny, family=cast(Any, AsVelocity(tiny.family))), PICTURES, options)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_a_picture_depends_on_seed_index_prompt_and_settings(tiny: Components) -> None:
    first = final(tiny, PICTURES[:1], OPTIONS)
    assert torch.equal(first, final(tiny, PICTURES[:1], OPTIONS))
    others = [
        final(tiny, [Picture("a dog", 1)], OPTIONS),
        final(tiny, [Picture("a cat", 0)], OPTIONS),
        *(
            final(tiny, PICTURES[:1], replace(OPTIONS, **change))
            for change in (
                {"seed": 12},
                {"steps": 6},
                {"guidance_scale": 3.0},
                {"negative_prompt": "x"},
                {"sampler": "plms"},
                {"eta": 0.5},
            )
        ),
    ]
    assert all(not torch.allclose(first, other, atol=1e-3) for other in others)


def test_the_start_is_the_counted_noise_of_the_picture(tiny: Components) -> None:
    next(iter(sample(tiny, PICTURES, OPTIONS, device=CPU, dtype=torch.float32)))
    expected = torch.stack([normal((4, 8, 16), 11, "x_T", k) for k in (0, 1, 1, 7)])
    assert torch.equal(cast(Any, tiny.family).unet_inputs[0], torch.cat([expected, expected]))


def test_a_picture_may_share_the_start_of_another(tiny: Components) -> None:
    own, shared = Picture("a dog", 2), Picture("a dog", 5, start=2)
    assert torch.equal(final(tiny, [own], OPTIONS), final(tiny, [shared], OPTIONS))
    fresh = replace(OPTIONS, eta=1.0)
    assert not torch.allclose(final(tiny, [own], fresh), final(tiny, [shared], fresh), atol=1e-3)


def test_the_fresh_noise_is_counted_by_picture_and_step(tiny: Components) -> None:
    """With a model that predicts no noise at all, a step is a scale and the fresh noise."""
    for module in (tiny.denoiser, *tiny.text_encoders):
        for parameter in cast(Any, module).parameters():
            parameter.zero_()
    states = list(sample(tiny, PICTURES[2:], replace(OPTIONS, eta=1.0), device=CPU, dtype=torch.float32))
    alpha_bar = tiny.family.schedule.alpha_bar_T
    for index, (t, previous) in enumerate(denoising_pairs(OPTIONS.steps, 1000)[1:], start=1):
        sigma = ddim_sigma(float(alpha_bar[t]), float(alpha_bar[previous]), 1.0)
        noise = torch.stack([normal((4, 8, 16), 11, "step noise", k, index) for k in (1, 7)])
        expected = (alpha_bar[previous] / alpha_bar[t]).sqrt().float() * states[index - 1].x_BCHW + sigma * noise
        torch.testing.assert_close(states[index].x_BCHW, expected, rtol=1e-5, atol=1e-4)


def test_text_is_encoded_once_a_batch_and_both_halves_share_a_forward(tiny: Components) -> None:
    family = cast(Any, tiny.family)
    final(tiny, PICTURES, OPTIONS)
    assert [len(batch) for batch in family.encoded] == [4, 1]
    assert [len(batch) for batch in family.unet_inputs] == [8] * OPTIONS.steps


def test_without_guidance_the_prompt_runs_alone(tiny: Components) -> None:
    family = cast(Any, tiny.family)
    final(tiny, PICTURES, replace(OPTIONS, guidance_scale=1.0))
    assert [len(batch) for batch in family.encoded] == [4]
    assert [len(batch) for batch in family.unet_inputs] == [4] * OPTIONS.steps


def test_guidance_one_is_the_limit_of_guidance_near_one(tiny: Components) -> None:
    alone = final(tiny, PICTURES, replace(OPTIONS, guidance_scale=1.0))
    torch.testing.assert_close(final(tiny, PICTURES, replace(OPTIONS, guidance_scale=1.0 + 1e-6)), alone, rtol=1e-3, atol=1e-3)


def test_nothing_is_computed_until_asked_and_nothing_after_one_stops_asking(tiny: Components) -> None:
    family = cast(Any, tiny.family)
    states = sample(tiny, PICTURES, OPTIONS, device=CPU, dtype=torch.float32)
    assert family.encoded == []
    next(states)
    preview = decode(tiny, next(states).x_0_BCHW)
    assert preview.shape == (4, 3, 64, 128)
    del states
    assert len(family.unet_inputs) == 2


def test_half_precision_weights_and_autocast_both_calculate_short_and_step_long(tiny: Components) -> None:
    family = cast(Any, tiny.family)
    exact = final(tiny, PICTURES, OPTIONS)
    cast_inside = final(tiny, PICTURES, OPTIONS, dtype=torch.bfloat16)
    assert set(family.unet_dtypes[OPTIONS.steps :]) == {torch.bfloat16}
    tiny.denoiser.to(torch.bfloat16)
    tiny.parts["text_encoder"].to(torch.bfloat16)
    cast_whole = final(tiny, PICTURES, OPTIONS, dtype=torch.bfloat16)
    for short in (cast_inside, cast_whole):
        assert short.dtype == torch.float32
        assert 0 < float((short - exact).norm() / exact.norm()) < 0.05


def test_a_size_that_the_vae_cannot_make_is_refused_before_anything_runs(tiny: Components) -> None:
    with pytest.raises(SettingsError) as caught:
        sample(tiny, PICTURES, replace(OPTIONS, height=100, width=4), device=CPU, dtype=torch.float32)
    assert caught.value.problems == (
        "height is 100: this model makes multiples of 8, such as 96",
        "width is 4: this model makes multiples of 8, such as 8",
    )
    check_size(8, height=64, width=72)


def test_decoding_one_by_one_in_float32_within_the_range(tiny: Components) -> None:
    family, latents = cast(Any, tiny.family), 5 * normal((3, 4, 2, 2), 0, "latents")
    nn_vae = cast(Any, tiny.vae)
    nn_vae.to(torch.float16)
    before = {name: tensor.clone() for name, tensor in nn_vae.state_dict().items()}
    pixels = decode(tiny, latents)
    assert [tuple(one.shape) for one in family.vae_inputs] == [(1, 4, 2, 2)] * 3
    assert family.vae_inputs[0].dtype == torch.float32
    assert pixels.shape == (3, 3, 16, 16)
    assert pixels.dtype == torch.float32
    assert float(pixels.min()) == 0.0
    assert float(pixels.max()) == 1.0
    expected = (torch.nn.functional.conv2d(latents, before["weight"].float(), before["bias"].float()) + 1) / 2
    torch.testing.assert_close(pixels[:, :, ::8, ::8], expected.clamp(0, 1))
    after = nn_vae.state_dict()
    assert all(torch.equal(tensor, after[name]) and after[name].dtype == torch.float16 for name, tensor in before.items())


def test_latents_that_overflow_float16_are_no_problem_and_nan_is_told(tiny: Components) -> None:
    cast(Any, tiny.vae).to(torch.float16)
    assert torch.isfinite(decode(tiny, torch.full((1, 4, 2, 2), 1e6))).all()
    with pytest.raises(ModelFileError, match="not finite") as caught:
        decode(tiny, torch.full((1, 4, 2, 2), float("nan")))
    assert caught.value.hint is not None
    assert "--precision bf16 or fp32" in caught.value.hint


def test_make_pictures_gives_each_picture_as_its_batch_is_done(tiny: Components) -> None:
    steps: list[int] = []
    made = make_pictures(tiny, PICTURES, OPTIONS, batch_size=3, device=CPU, dtype=torch.float32, advance=steps.append)
    first = next(made)
    assert first.picture == PICTURES[0]
    assert first.pixels_CHW.shape == (3, 64, 128)
    assert steps == [3] * 5
    assert [one.picture for one in made] == PICTURES[1:]
    assert steps == [3] * 5 + [1] * 5


def test_the_latent_of_a_made_picture_is_what_was_decoded(tiny: Components) -> None:
    made = list(make_pictures(tiny, PICTURES, OPTIONS, batch_size=3, device=CPU, dtype=torch.float32, advance=lambda _: None))
    first_three = final(tiny, PICTURES[:3], OPTIONS)
    for one, x_0_CHW in zip(made, [*first_three, *final(tiny, PICTURES[3:], OPTIONS)], strict=True):
        assert one.x_0_CHW.dtype == torch.float32
        assert torch.equal(one.x_0_CHW, x_0_CHW)
        assert torch.equal(one.pixels_CHW, decode(tiny, one.x_0_CHW.unsqueeze(0))[0])


def test_number_formats() -> None:
    assert picture_dtype(None, CPU) == torch.float32
    assert picture_dtype(None, torch.device("cuda")) == torch.float16
    assert [picture_dtype(name, CPU) for name in ("fp32", "bf16", "fp16")] == [torch.float32, torch.bfloat16, torch.float16]  # type: ignore[arg-type]
