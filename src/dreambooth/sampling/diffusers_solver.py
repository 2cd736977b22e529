"""DPM-Solver++ (2M), Euler and ancestral Euler, using the schedulers of diffusers.

Papers: Lu et al., arXiv 2211.01095 (DPM-Solver++); Karras et al., arXiv 2206.00364 (Euler). The noise schedule is ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Generator, Tensor

from dreambooth.diffusion.prediction import Prediction
from dreambooth.diffusion.schedule import NoiseSchedule

__all__ = ["DiffusersSolver"]

_SCHEDULERS = {
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
}
_PREDICTIONS: Mapping[Prediction, str] = {"epsilon": "epsilon", "velocity": "v_prediction"}


class DiffusersSolver:
    """One of diffusers' schedulers; one prediction per step, ending without noise."""

    def __init__(
        self,
        sampler: str,
        schedule: NoiseSchedule,
        steps: int,
        *,
        prediction: Prediction = "epsilon",
        begins_last: bool = False,
    ) -> None:
        import diffusers.schedulers  # here, because it takes seconds and DDIM does without

        # Evenly spaced timesteps from the last to the first. With one step, Euler's only timestep would be the first, which
        # contains no signal; with one step per timestep, DPM-Solver's would contain one twice and divide by zero. "trailing"
        # is right in both cases: the last timestep alone, and every timestep once. Without signal at the last timestep, all
        # steps must be whole timesteps, as no noise level lies between it and the one before.
        is_trailing = begins_last or steps in {1, schedule.num_timesteps} or schedule.has_zero_terminal_snr
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # its conversion of tensors to arrays is deprecated in NumPy 2
            self._scheduler: Any = getattr(diffusers.schedulers, _SCHEDULERS[sampler])(
                num_train_timesteps=schedule.num_timesteps,
                trained_betas=schedule.beta_T.tolist(),
                timestep_spacing="trailing" if is_trailing else "linspace",
                prediction_type=_PREDICTIONS[prediction],
                rescale_betas_zero_snr=schedule.has_zero_terminal_snr,  # already so; the last noise level becomes finite
            )
            self._scheduler.set_timesteps(steps)
        self._scheduler.set_begin_index(0)
        self._draws_noise = sampler == "euler-a"
        self._keeps_x_0 = sampler == "dpm++"
        self.num_steps = steps

    def start(self, eps_BCHW: Tensor) -> Tensor:
        """Noise scaled to the first noise level, about 14.6 for the Euler methods."""
        return eps_BCHW * float(self._scheduler.init_noise_sigma)

    def step(
        self, index: int, x_BCHW: Tensor, predict: Callable[[Tensor, float], Tensor], generators: Sequence[Generator]
    ) -> tuple[Tensor, Tensor]:
        """Predict once and advance one step; ancestral Euler draws fresh noise."""
        t = self._scheduler.timesteps[index]
        output = predict(self._scheduler.scale_model_input(x_BCHW, t), t.item())
        options = {"generator": list(generators)} if self._draws_noise else {}
        result = self._scheduler.step(output, t, x_BCHW, **options)
        # DPM-Solver++ converts predictions to x_0 and keeps the latest ones to combine them.
        return result.prev_sample, self._scheduler.model_outputs[-1] if self._keeps_x_0 else result.pred_original_sample
