from __future__ import annotations

import itertools

import pytest
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from dreambooth.diffusion.timesteps import denoising_pairs


def test_every_number_of_steps_is_exact_and_spans_the_schedule() -> None:
    for steps in range(1, 1001):
        pairs = denoising_pairs(steps, 1000)
        visited = [t for t, _ in pairs]
        assert len(pairs) == steps
        assert visited == sorted(set(visited), reverse=True), steps
        assert visited[-1] == (0 if steps == 1000 else 1)
        assert 999 >= visited[0] >= 1000 - 1000 / steps
        gaps = [above - below for above, below in itertools.pairwise(visited)]
        assert not gaps or max(gaps) - min(gaps) <= 1, steps


def test_each_step_arrives_where_the_next_one_starts_and_the_last_at_zero() -> None:
    for steps in (1, 2, 3, 7, 30, 999, 1000):
        pairs = denoising_pairs(steps, 1000)
        assert [previous for _, previous in pairs] == [*(t for t, _ in pairs[1:]), 0]


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 8, 10, 20, 25, 40, 50, 100, 125, 200, 250, 500])
def test_divisors_give_the_timesteps_of_the_original(steps: int) -> None:
    assert [t for t, _ in denoising_pairs(steps, 1000)] == [t + 1 for t in range(0, 1000, 1000 // steps)][::-1]


def test_trailing_timesteps_begin_at_the_last_one() -> None:
    for steps in range(1, 1001):
        pairs = denoising_pairs(steps, 1000, is_trailing=True)
        visited = [t for t, _ in pairs]
        assert visited[0] == 999
        assert visited == sorted(set(visited), reverse=True)
        assert len(visited) == steps
        assert [previous for _, previous in pairs] == [*visited[1:], 0]


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 20, 25, 50, 100, 250, 1000])
def test_trailing_timesteps_of_divisors_are_those_of_diffusers(steps: int) -> None:
    scheduler = DDIMScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    assert [t for t, _ in denoising_pairs(steps, 1000, is_trailing=True)] == scheduler.timesteps.tolist()
