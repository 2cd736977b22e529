from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.diffusion.randomness import generator, normal
from dreambooth.diffusion.schedule import scaled_linear_schedule
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.untrained import untrained_unet
from experiments.toybox.denoising import Encoded, denoising_loss, encode_pictures, hearing

ALPHA_BAR = scaled_linear_schedule().alpha_bar_T
NUM, SHAPE = 6, (2, 4, 4)


class Listener:
    """A family whose noise is a fixed function of picture, timestep and text; notes the texts and timesteps."""

    schedule = scaled_linear_schedule()
    scaling_factor = 0.5

    prediction = "epsilon"

    def __init__(self, *, is_deaf: bool = False) -> None:
        self.is_deaf = is_deaf
        self.texts: list[Tensor] = []
        self.times: list[Tensor] = []

    def sample_latents(self, moments: LatentMoments, eps: Tensor) -> Tensor:
        return self.scaling_factor * moments.sample(eps)

    def predict(self, unet: Any, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        text = conditioning.states_BLD
        self.texts.append(text)
        self.times.append(t)
        bias = 0 if self.is_deaf else text.float().mean(dim=(1, 2)).reshape(-1, 1, 1, 1)
        return 0.9 * x_t + 0.1 * t.reshape(-1, 1, 1, 1) / 1000 + bias


UNET: Any = SimpleNamespace(device=torch.device("cpu"))


@pytest.fixture(scope="module")
def encoded() -> Encoded:
    """Six pictures, each with its mirror image, and three captions of each; the mean of a caption's states is its number."""
    states = torch.arange(NUM * 3).reshape(-1, 1, 1).expand(-1, 5, 8) / 10
    moments = LatentMoments(normal((2 * NUM, *SHAPE), 1, "mean").half(), normal((2 * NUM, *SHAPE), 1, "deviation").abs().half())
    return Encoded(moments, states.bfloat16(), torch.arange(NUM * 3).reshape(NUM, 3), torch.full((5, 8), -3.0).bfloat16())


def drawn(encoded: Encoded, batch_size: int, seed: int, step: int) -> dict[str, Tensor]:
    """The draws of a step, in the order in which the embedded model was trained with them."""
    random = generator(seed, "denoising", step)
    return {
        "rows": torch.randint(2 * NUM, (batch_size,), generator=random),
        "draws": torch.randint(3, (batch_size,), generator=random),
        "empty": torch.rand(batch_size, generator=random),
        "t": torch.randint(1000, (batch_size,), generator=random),
        "posterior": torch.randn((batch_size, *SHAPE), generator=random),
        "eps": torch.randn((batch_size, *SHAPE), generator=random),
    }


def test_the_loss_is_the_weighted_error_of_the_predicted_noise(encoded: Encoded) -> None:
    found = denoising_loss(Listener(), UNET, encoded, batch_size=40, seed=3, step=5)  # type: ignore[arg-type]
    draw, losses = drawn(encoded, 40, 3, 5), []
    for example in range(40):
        row, t = int(draw["rows"][example]), int(draw["t"][example])
        is_empty = bool(draw["empty"][example] < 0.1)
        caption = (row // 2) * 3 + int(draw["draws"][example])
        text = -3.0 if is_empty else float((torch.tensor(caption) / 10).bfloat16())
        mean, deviation = encoded.moments.mean[row].double(), encoded.moments.deviation[row].double()
        z, eps = 0.5 * (mean + deviation * draw["posterior"][example]), draw["eps"][example].double()
        x_t = ALPHA_BAR[t].sqrt() * z + (1 - ALPHA_BAR[t]).sqrt() * eps
        prediction = 0.9 * x_t + 0.1 * t / 1000 + text
        signal_to_noise = ALPHA_BAR[t] / (1 - ALPHA_BAR[t])
        losses.append(min(float(signal_to_noise), 5.0) / signal_to_noise * (prediction - eps).square().mean())
    assert float(found) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)


def test_a_tenth_of_the_captions_is_empty_and_the_rest_belong_to_their_pictures(encoded: Encoded) -> None:
    family = Listener()
    before = encoded.states_ULD.clone()
    for step in range(20):
        denoising_loss(family, UNET, encoded, batch_size=50, seed=1, step=step)  # type: ignore[arg-type]
        rows = drawn(encoded, 50, 1, step)["rows"]
        for row, text in zip(rows.tolist(), family.texts[-1][:, 0, 0].float().tolist(), strict=True):
            allowed = [float(states[0, 0]) for states in encoded.states_ULD[encoded.caption_NK[row // 2]]]
            assert text in [*allowed, -3.0]
    texts = torch.cat(family.texts)[:, 0, 0].float()
    assert float((texts == -3).float().mean()) == pytest.approx(0.1, abs=0.03)  # 3 standard deviations
    assert set(texts.unique().tolist()) == {*encoded.states_ULD[:, 0, 0].float().tolist(), -3.0}
    assert torch.equal(encoded.states_ULD, before)
    times = torch.cat(family.times)
    assert times.min() < 20 and times.max() > 980 and abs(float(times.float().mean()) - 499.5) < 3 * 289 / 1000**0.5


def test_a_step_s_loss_depends_on_seed_and_step_alone(encoded: Encoded) -> None:
    def loss(seed: int, step: int) -> float:
        return float(denoising_loss(Listener(), UNET, encoded, batch_size=8, seed=seed, step=step))  # type: ignore[arg-type]

    assert loss(1, 1) == loss(1, 1)
    assert len({loss(1, 1), loss(1, 2), loss(2, 1)}) == 3


def test_a_real_unet_learns_from_it_with_every_parameter(miniature: StableDiffusion1) -> None:
    unet = untrained_unet(miniature, seed=2)
    shape = (4, 4, 8, 8)
    moments = LatentMoments(normal(shape, 1, "mean"), normal(shape, 1, "deviation").abs())
    states = normal((3, 77, 64), 1, "states").bfloat16()
    some = Encoded(moments, states, torch.tensor([[0, 1], [1, 2]]), torch.zeros(77, 64).bfloat16())
    loss = denoising_loss(miniature, unet, some, batch_size=2, seed=1, step=1)
    loss.backward()
    assert [name for name, p in unet.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert loss.dtype == torch.float32


def test_hearing_is_zero_for_a_model_that_ignores_the_words(encoded: Encoded) -> None:
    assert hearing(Listener(is_deaf=True), UNET, encoded, t=500, num=100, seed=1) == pytest.approx(0, abs=1e-6)  # type: ignore[arg-type]


def test_hearing_is_how_much_worse_the_wrong_captions_are(encoded: Encoded) -> None:
    family = Listener()
    found = hearing(family, UNET, encoded, t=300, num=70, seed=4)  # type: ignore[arg-type]
    random = generator(4, "hearing", 300)
    rows = torch.randint(2 * NUM, (70,), generator=random)
    z, eps = 0.5 * encoded.moments.mean[rows].float(), torch.randn((70, *SHAPE), generator=random)
    x_t = ALPHA_BAR[300].sqrt() * z + (1 - ALPHA_BAR[300]).sqrt() * eps
    numbers = encoded.caption_NK[rows // 2, 0]
    losses = []
    for text in (numbers, torch.cat([numbers[-1:], numbers[:-1]])):
        bias = encoded.states_ULD[text].float().mean(dim=(1, 2)).reshape(-1, 1, 1, 1)
        losses.append(float((0.9 * x_t + 0.03 + bias - eps).square().mean()))
    assert found == pytest.approx(losses[1] / losses[0] - 1, rel=1e-4)
    assert [len(text) for text in family.texts] == [64, 6, 64, 6]


def test_hearing_rises_when_the_right_words_help(encoded: Encoded) -> None:
    """Pictures are all their caption's number; the model takes that away from the noisy picture, and a little is left."""
    means = (torch.arange(NUM) / 10).repeat_interleave(2).reshape(-1, 1, 1, 1).expand(-1, *SHAPE)
    captions = torch.arange(NUM).reshape(NUM, 1)
    told = Encoded(LatentMoments(means, torch.zeros_like(means)), encoded.states_ULD[:NUM], captions, encoded.empty_LD)

    class Subtracting(Listener):
        def predict(self, unet: Any, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
            z = 0.5 * conditioning.states_BLD.float().mean(dim=(1, 2)).reshape(-1, 1, 1, 1)
            alpha_bar = ALPHA_BAR[t].float().reshape(-1, 1, 1, 1)
            return (x_t - alpha_bar.sqrt() * z) / (1 - alpha_bar).sqrt() + 0.1

    assert hearing(Subtracting(), UNET, told, t=500, num=64, seed=1) > 0.3  # type: ignore[arg-type]


def test_pictures_are_encoded_each_with_its_mirror_image() -> None:
    pictures = torch.randint(256, (70, 4, 6, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    counts: list[int] = []
    weight = nn.Parameter(torch.ones(()))
    moments = encode_pictures(lambda pixels: LatentMoments(weight * pixels, 2 * pixels.abs()), pictures, counts.append)
    assert moments.mean.shape == (140, 3, 4, 6) and moments.mean.dtype == moments.deviation.dtype == torch.float16
    assert not moments.mean.requires_grad
    assert counts == [64, 6]
    expected = (pictures.permute(0, 3, 1, 2).float() / 127.5 - 1).half()
    assert torch.equal(moments.mean[0::2], expected)
    assert torch.equal(moments.mean[1::2], expected.flip(3))
    torch.testing.assert_close(moments.deviation, 2 * moments.mean.abs(), rtol=1e-3, atol=1e-3)
