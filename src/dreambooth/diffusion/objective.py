"""The training objective.

The prior-preservation term is a weight on examples (DreamBooth, arXiv 2208.12242, eq. 2, with the target of `prediction.py`):
loss = mean over the update's photos + prior_weight * mean over its class images. Each example carries its coefficient, so
any split of the update into micro-batches sums to the same loss. Shapes: B examples, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dreambooth.diffusion.prediction import Prediction
from dreambooth.diffusion.schedule import NoiseSchedule, signal_to_noise

__all__ = ["example_coefficients", "min_snr_weights", "squared_error"]


def squared_error(prediction_BCHW: Tensor, target_BCHW: Tensor, weight_BHW: Tensor | None = None) -> Tensor:
    """Mean squared error of each example over C, H and W, (B,) in the target's dtype.

    `weight_BHW` weighs the places of an example; its mean should be 1. Weights of one change no bit of the result.
    """
    error_BCHW = (prediction_BCHW.to(target_BCHW.dtype) - target_BCHW).square()
    if weight_BHW is not None:
        error_BCHW = error_BCHW * weight_BHW.unsqueeze(1)
    return error_BCHW.flatten(1).mean(dim=1)


def min_snr_weights(schedule: NoiseSchedule, t_B: Tensor, gamma: float, prediction: Prediction) -> Tensor:
    """Loss weight of each example by its own timestep, (B,) float32 (Hang et al., arXiv 2303.09556, section 3.4).

    min(SNR, gamma) / SNR if the noise is predicted, min(SNR, gamma) / (SNR + 1) if the velocity is.
    """
    snr_B = signal_to_noise(schedule, t_B)
    return snr_B.clamp(max=gamma) / (snr_B + 1 if prediction == "velocity" else snr_B)


def example_coefficients(is_prior_B: Tensor, *, num_instances: int, num_priors: int, prior_weight: float) -> Tensor:
    """Coefficient of each example's loss in the update's loss, (B,) float32.

    `num_instances` and `num_priors` count the examples of the whole update, not of the micro-batch.
    """
    instance = torch.full(is_prior_B.shape, 1 / num_instances, device=is_prior_B.device)
    prior = torch.full(is_prior_B.shape, prior_weight / num_priors if num_priors else 0.0, device=is_prior_B.device)
    return torch.where(is_prior_B, prior, instance)
