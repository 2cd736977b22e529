"""The timesteps that a sampler visits."""

from __future__ import annotations

__all__ = ["denoising_pairs"]


def denoising_pairs(steps: int, num_timesteps: int, *, is_trailing: bool = False) -> list[tuple[int, int]]:
    """Exactly `steps` pairs (t, previous t), from the noisiest timestep down, spread over the whole schedule.

    t_i = floor(i T / S) + 1 for i = 0 ... S - 1, without the offset if S = T, where it would exceed the schedule. For every
    S that divides T these are the timesteps of the original program. With `is_trailing`, t_i = ceil(i T / S) - 1 for
    i = 1 ... S, which begins at T - 1 (Lin et al., arXiv 2305.08891, section 3.3): a model whose last timestep holds noise
    alone must begin there. Each step ends at the timestep where the next one starts; the last one ends at timestep 0, so noise
    of alpha_bar_0 remains, as in the original.
    """
    assert 1 <= steps <= num_timesteps
    if is_trailing:
        ascending = [-(-index * num_timesteps // steps) - 1 for index in range(1, steps + 1)]
    else:
        offset = 0 if steps == num_timesteps else 1
        ascending = [index * num_timesteps // steps + offset for index in range(steps)]
    return list(zip(ascending, [0, *ascending[:-1]], strict=True))[::-1]
