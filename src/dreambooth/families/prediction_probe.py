"""Which prediction a UNet makes, found by asking it: for families whose files do not say.

At the last timestep, x_t is nearly all noise. A network of the noise answers with nearly its input; a network of the velocity
v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0 answers with nearly the negative image, which has little in common with it.
So has the answer of a network that was not trained. Therefore it is asked again at an early timestep, of the same noise on a
gray image, where the velocity too is mostly the noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from dreambooth.diffusion.prediction import Prediction
from dreambooth.diffusion.randomness import normal
from dreambooth.families.family import Family
from dreambooth.families.loading import build_module
from dreambooth.families.shapes import StateDict

__all__ = ["Probe", "probe_prediction"]

_SIDE = 8  # of the latents: a UNet of four levels reaches one position
_NUM_NOISES = 4
_LEAST_OF_NOISE = 0.8
_MOST_OF_VELOCITY = 0.5
_EARLY = 0.25  # of the timesteps: there, the velocity of a gray image is 0.8 times its noise, which a trained network finds
_LEAST_EARLY = 0.5


@dataclass(frozen=True)
class Probe:
    """How alike a UNet's answers to noise and the noise are, from -1 to 1."""

    last: float
    """At the last timestep."""
    early: float
    """At an early one."""

    @property
    def prediction(self) -> Prediction | None:
        """What the UNet predicts; None if its answers are those of neither prediction."""
        if self.early < _LEAST_EARLY:
            return None  # it cannot tell noise from an image, so its answer at the end shows nothing either
        if self.last >= _LEAST_OF_NOISE:
            return "epsilon"
        return "velocity" if abs(self.last) <= _MOST_OF_VELOCITY else None

    @property
    def text(self) -> str:
        """The measurement, for a person."""
        return (
            f"its answer to noise has a similarity of {self.last:.2f} to it at the last timestep and {self.early:.2f} early on"
        )


@torch.no_grad()
def probe_prediction(family: Family, denoiser: StateDict) -> Probe:
    """Ask the denoiser with these tensors twice; it is built in bfloat16 and let go again."""
    module = build_module(lambda: family.new_module(family.denoiser), denoiser, buffers={}, dtype=torch.bfloat16)
    last = family.schedule.num_timesteps - 1
    return Probe(_similarity(family, module, last), _similarity(family, module, round(_EARLY * last)))


def _similarity(family: Family, module: nn.Module, t: int) -> float:
    noise_BCHW = torch.stack(
        [normal((family.latent_channels, _SIDE, _SIDE), 0, "probe", index) for index in range(_NUM_NOISES)]
    )
    x_t_BCHW: Tensor = noise_BCHW if t == family.schedule.num_timesteps - 1 else _deviation(family, t) * noise_BCHW
    conditioning = family.empty_conditioning(_NUM_NOISES, torch.device("cpu")).map(torch.zeros_like)
    t_B = torch.full((_NUM_NOISES,), t)
    output_BCHW = family.predict(module, x_t_BCHW.bfloat16(), t_B, conditioning.to(dtype=torch.bfloat16)).float()
    return float(cosine_similarity(output_BCHW.flatten(1), noise_BCHW.flatten(1)).mean())


def _deviation(family: Family, t: int) -> float:
    """The standard deviation of the noise at a timestep."""
    return float((1 - family.schedule.alpha_bar_T[t]).sqrt())
