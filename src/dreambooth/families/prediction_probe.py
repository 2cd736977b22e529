"""Which prediction a UNet makes, found by asking it: for families whose files do not say.

At the last timestep, x_t is nearly all noise. A network of the noise answers with nearly its input; a network of the velocity
v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0 answers with nearly the negative image, which has little in common with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
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


@dataclass(frozen=True)
class Probe:
    """How alike a UNet's answer to noise and the noise are, from -1 to 1."""

    similarity: float

    @property
    def prediction(self) -> Prediction | None:
        """What the UNet predicts; None if its answer is like neither."""
        if self.similarity >= _LEAST_OF_NOISE:
            return "epsilon"
        return "velocity" if abs(self.similarity) <= _MOST_OF_VELOCITY else None

    @property
    def text(self) -> str:
        """The measurement, for a person."""
        return f"at the last timestep, its answer to noise has a similarity of {self.similarity:.2f} to it"


@torch.no_grad()
def probe_prediction(family: Family, denoiser: StateDict) -> Probe:
    """Ask the denoiser with these tensors once; it is built in bfloat16 and let go again."""
    module = build_module(lambda: family.new_module(family.denoiser), denoiser, buffers={}, dtype=torch.bfloat16)
    noise_BCHW = torch.stack(
        [normal((family.latent_channels, _SIDE, _SIDE), 0, "probe", index) for index in range(_NUM_NOISES)]
    )
    t_B = torch.full((_NUM_NOISES,), family.schedule.num_timesteps - 1)
    conditioning = family.empty_conditioning(_NUM_NOISES, torch.device("cpu")).map(torch.zeros_like)
    output_BCHW = family.predict(module, noise_BCHW.bfloat16(), t_B, conditioning.to(dtype=torch.bfloat16)).float()
    return Probe(float(cosine_similarity(output_BCHW.flatten(1), noise_BCHW.flatten(1)).mean()))
