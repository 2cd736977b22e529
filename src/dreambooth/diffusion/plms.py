"""The pseudo linear multistep method, PLMS (Liu et al., arXiv 2202.09778).

A DDIM step without fresh noise carries x from one timestep to the next, but with a different noise prediction: a combination
of the current prediction and those of earlier steps.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

__all__ = ["MAX_OLDER", "multistep_eps"]

MAX_OLDER = 3

# Adams-Bashforth coefficients of orders 2, 3 and 4, newest prediction first.
_COEFFICIENTS = {
    1: (3 / 2, -1 / 2),
    2: (23 / 12, -16 / 12, 5 / 12),
    3: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def multistep_eps(eps: Tensor, older: Sequence[Tensor]) -> Tensor:
    """The combined prediction for a step, from `eps` of this timestep and one to three `older` ones, newest first.

    With three older ones it is (55 eps_t - 59 eps_1 + 37 eps_2 - 9 eps_3) / 24, the method itself; with fewer, it is the
    Adams-Bashforth formula of lower order, which starts the method in the second and third steps.
    """
    coefficients = _COEFFICIENTS[len(older)]
    return sum((c * e for c, e in zip(coefficients[1:], older, strict=True)), coefficients[0] * eps)
