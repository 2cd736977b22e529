"""Two ways of drawing: rounds that show everything alike, and the original's pairs with their unseen tail."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from dreambooth.data.drawing import Drawing, OriginalPairs, PerRole, Rounds, drawing, repeats_of
from dreambooth.data.records import Role
from dreambooth.data.settings import PriorSettings

ROLES: tuple[Role, ...] = ("instance", "prior")
NUM = PerRole(instance=3, prior=7)
DRAWINGS = [
    Rounds(NUM, seed=23),
    OriginalPairs(NUM, PerRole(4, 10), seed=23),  # the photos end the epoch: 12 entries
    OriginalPairs(NUM, PerRole(100, 2), seed=23),  # the class images do: 14
    OriginalPairs(PerRole(3, 40), PerRole(4, 10), seed=23),  # 28 of the class images are never seen
    OriginalPairs(PerRole(9, 2), PerRole(100, 3), seed=23),  # and 3 of the photos
]


def drawn(of: Drawing, role: Role, num_draws: int) -> list[int]:
    return [of.index(role, draw) for draw in range(num_draws)]


def pairs(of: Drawing, num_draws: int) -> list[tuple[int, int]]:
    return list(zip(drawn(of, "instance", num_draws), drawn(of, "prior", num_draws), strict=True))


def test_an_epoch_has_every_entry_once() -> None:
    of = OriginalPairs(NUM, PerRole(4, 10), seed=23)
    entries = sorted((entry % 3, entry % 7) for entry in range(12))
    assert of.num_entries == 12
    for epoch in range(4):
        assert sorted(pairs(of, 48)[12 * epoch : 12 * (epoch + 1)]) == entries


def test_every_epoch_has_an_order_of_its_own() -> None:
    shown = pairs(OriginalPairs(NUM, PerRole(4, 10), seed=23), 60)
    epochs = [tuple(shown[start : start + 12]) for start in range(0, 60, 12)]
    assert len({*epochs, tuple((entry % 3, entry % 7) for entry in range(12))}) == 6
    assert shown != pairs(OriginalPairs(NUM, PerRole(4, 10), seed=24), 60)


def test_the_tail_of_a_large_set_is_never_seen() -> None:
    of = OriginalPairs(PerRole(10, 1500), PerRole(100, 10), seed=0)
    assert of.num_entries == 1000
    assert set(drawn(of, "prior", 3000)) == set(range(1000))
    assert (of.num_reached("instance"), of.num_reached("prior")) == (10, 1000)


@pytest.mark.parametrize("of", DRAWINGS)
@pytest.mark.parametrize("role", ROLES)
def test_exposures_are_those_of_the_draws(of: Drawing, role: Role) -> None:
    for num_draws in (0, 1, 5, 12, 13, 14, 28, 50):
        counts = Counter(drawn(of, role, num_draws))
        exposures = of.exposures(role, num_draws)
        assert exposures == tuple(counts[index] for index in range(len(exposures)))


@pytest.mark.parametrize("of", DRAWINGS)
@pytest.mark.parametrize("role", ROLES)
def test_what_is_reached_is_exactly_what_is_drawn(of: Drawing, role: Role) -> None:
    assert set(drawn(of, role, 500)) == set(range(of.num_reached(role)))


def test_exposures_of_a_long_run_are_computed_not_counted() -> None:
    of = OriginalPairs(PerRole(20, 1500), PerRole(100, 10), seed=0)
    start = time.perf_counter()
    assert sum(of.exposures("prior", 10**9)) == 10**9
    assert time.perf_counter() - start < 1


def test_a_draw_is_a_pure_function() -> None:
    of = OriginalPairs(NUM, PerRole(4, 10), seed=23)
    backwards = [of.index("prior", draw) for draw in reversed(range(200))]
    assert backwards[::-1] == drawn(OriginalPairs(NUM, PerRole(4, 10), seed=23), "prior", 200)


def test_settings_choose_the_way() -> None:
    repeats = repeats_of(PriorSettings(original_pairing=True, photo_repeats=5))
    assert repeats == PerRole(5, 10)
    assert drawing(NUM, repeats, seed=1) == OriginalPairs(NUM, PerRole(5, 10), 1)
    assert drawing(NUM, repeats_of(PriorSettings()), seed=1) == Rounds(NUM, 1)


def test_the_order_of_pairs_is_pinned() -> None:
    """Another order would break the resuming of every run made before."""
    assert pairs(OriginalPairs(NUM, PerRole(4, 10), seed=23), 6) == [(1, 0), (0, 3), (2, 5), (0, 6), (1, 1), (2, 2)]
