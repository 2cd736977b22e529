"""The denoiser for training: takes noisy latents, timesteps and text; returns the prediction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dreambooth.diffusion.conditioning import Text
from dreambooth.families.components import Components
from dreambooth.runtime.precision import PrecisionPolicy

__all__ = ["Denoiser"]


@dataclass(frozen=True)
class Denoiser:
    """The model's components with a precision policy.

    Text that arrives as token ids is encoded here, so that gradients reach the text encoders.
    """

    components: Components
    policy: PrecisionPolicy

    def __call__(self, x_t_BCHW: Tensor, t_B: Tensor, text: Text, sizes_B6: Tensor | None = None) -> Tensor:
        """The model's prediction for x_t, (B, C, H, W). `sizes_B6` is for families that take sizes."""
        family, parts = self.components.family, self.components.parts
        with self.policy.autocast():
            conditioning = family.encode_text(parts, text) if isinstance(text, Tensor) else text
            if sizes_B6 is not None:
                conditioning = conditioning.with_sizes(sizes_B6)
            if self.policy.weight_dtype != torch.float32:  # no autocast in this case, so inputs must be cast here
                x_t_BCHW, conditioning = x_t_BCHW.to(self.policy.weight_dtype), conditioning.to(dtype=self.policy.weight_dtype)
            return family.predict(self.components.denoiser, x_t_BCHW, t_B, conditioning)
