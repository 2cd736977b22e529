"""The model as training sees it: noisy latents, timesteps and text in, predicted noise out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dreambooth.families.components import Components
from dreambooth.runtime.precision import PrecisionPolicy

__all__ = ["Denoiser"]


@dataclass(frozen=True)
class Denoiser:
    """Components under a precision policy.

    With `encodes_text` the text arrives as token ids and gradients reach the text encoder; otherwise it arrives as states.
    """

    components: Components
    policy: PrecisionPolicy
    encodes_text: bool

    def __call__(self, x_t_BCHW: Tensor, t_B: Tensor, text: Tensor) -> Tensor:
        """The model's estimate of eps in x_t, (B, C, H, W)."""
        family = self.components.family
        with self.policy.autocast():
            states_BLD = family.encode_text(self.components.parts, text) if self.encodes_text else text
            if self.policy.weight_dtype != torch.float32:  # no autocast then, which would convert what comes in
                x_t_BCHW, states_BLD = x_t_BCHW.to(self.policy.weight_dtype), states_BLD.to(self.policy.weight_dtype)
            return family.predict_noise(self.components.denoiser, x_t_BCHW, t_B, states_BLD)
