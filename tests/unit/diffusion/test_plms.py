from __future__ import annotations

import pytest
import torch

from dreambooth.diffusion.plms import MAX_OLDER, multistep_eps


@pytest.mark.parametrize("num_older", [1, 2, 3])
def test_the_mean_over_the_step_is_exact_for_polynomials_up_to_the_order(num_older: int) -> None:
    """What an Adams-Bashforth formula is: predictions were made at 0, -1, -2, ...; the step goes from 0 to 1."""
    for power in range(num_older + 1):
        eps, *older = (torch.tensor(float(-age), dtype=torch.float64) ** power for age in range(num_older + 1))
        assert float(multistep_eps(eps, older)) == pytest.approx(1 / (power + 1), abs=1e-12)
    beyond = num_older + 1
    eps, *older = (torch.tensor(float(-age), dtype=torch.float64) ** beyond for age in range(num_older + 1))
    assert float(multistep_eps(eps, older)) != pytest.approx(1 / (beyond + 1), abs=1e-3)


def test_the_method_of_the_paper() -> None:
    predictions = [torch.full((1, 1), value, dtype=torch.float64) for value in (1.0, 10.0, 100.0, 1000.0)]
    expected = (55 * 1.0 - 59 * 10.0 + 37 * 100.0 - 9 * 1000.0) / 24
    assert float(multistep_eps(predictions[0], predictions[1:])) == pytest.approx(expected)
    assert MAX_OLDER == 3
