"""Which timesteps a sampler visits."""

from __future__ import annotations

__all__ = ["denoising_pairs"]


def denoising_pairs(steps: int, num_timesteps: int) -> list[tuple[int, int]]:
    """Exactly `steps` pairs (t, previous t), from the noisiest timestep down, spread over the whole schedule.

    t_i = floor(i T / S) + 1 for i = 0 ... S - 1, and without the offset when S = T, where it would leave the schedule. For
    every S that divides T these are the timesteps of the original program. A step arrives where the next one starts; the
    last one arrives at timestep 0, so what is left is the noise of alpha_bar_0 and not none, as in the original.
    """
    assert 1 <= steps <= num_timesteps
    offset = 0 if steps == num_timesteps else 1
    ascending = [index * num_timesteps // steps + offset for index in range(steps)]
    return list(zip(ascending, [0, *ascending[:-1]], strict=True))[::-1]
