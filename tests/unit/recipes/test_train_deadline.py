"""When a run with a time limit must stop."""

from __future__ import annotations

import math

from dreambooth.recipes.train import deadline_of


def test_the_limit_is_in_hours() -> None:
    assert deadline_of(1.5, now=100.0) == 100.0 + 90 * 60


def test_without_a_limit_there_is_no_deadline() -> None:
    assert deadline_of(None, now=100.0) == math.inf
