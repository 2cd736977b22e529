"""Groups of lookalikes: what they show, and how pairs are drawn from them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dreambooth.diffusion.randomness import generator
from dreambooth.toybox.judge import UNASKED, look_truth
from dreambooth.toybox.subjects import SUBJECT_PATTERNS, SUBJECTS, random_subject
from dreambooth.toybox.world import CLASSES, ORDINARY_PATTERNS, Look
from experiments.toybox import lookalikes as module
from experiments.toybox.lookalikes import (
    FIRST_SUBJECT,
    GROUP,
    MEMBERS,
    VIEWS,
    draw_pairs,
    lookalike_scene,
    lookalikes,
    num_groups_seen,
)

GROUPS = range(300)


def visible(look: Look) -> dict[str, int]:
    return {name: answer for name, answer in look_truth(look).items() if answer != UNASKED}


def test_a_group_is_a_function_of_seed_and_number() -> None:
    first = [lookalikes(3, group) for group in GROUPS]
    lookalikes.cache_clear()
    assert first == [lookalikes(3, group) for group in GROUPS]
    assert len({looks[0] for looks in first}) == len(GROUPS)
    assert not set(first) & {lookalikes(4, group) for group in GROUPS}


def test_every_other_object_of_a_group_differs_from_the_first_in_one_visible_thing() -> None:
    changed = set()
    for group in GROUPS:
        first, *others = lookalikes(3, group)
        assert len(others) == MEMBERS - 1
        assert len({tuple(look_truth(look).items()) for look in (first, *others)}) == MEMBERS
        for other in others:
            differing = [
                name for name in ("pattern", "primary", "secondary", "accent") if getattr(first, name) != getattr(other, name)
            ]
            assert len(differing) == 1 and differing[0] in visible(first)
            assert replace(other, **{differing[0]: getattr(first, differing[0])}) == first
            changed.add(differing[0])
    assert changed == {"pattern", "primary", "secondary", "accent"}


def test_a_changed_colour_is_one_that_the_object_did_not_have() -> None:
    for group in GROUPS:
        first, *others = lookalikes(3, group)
        has = {first.primary, first.secondary, first.accent}
        for other in others:
            new = {other.primary, other.secondary, other.accent} - has
            assert len(new) == (0 if other.pattern != first.pattern else 1)


def test_ordinary_objects_and_subjects_of_every_class_begin_a_group() -> None:
    firsts = [lookalikes(3, group)[0] for group in GROUPS]
    assert {look.class_word for look in firsts} == set(CLASSES)
    ordinary = sum(look.pattern in ORDINARY_PATTERNS for look in firsts)
    assert 0.4 < ordinary / len(firsts) < 0.6
    assert {look.pattern for look in firsts} >= set(SUBJECT_PATTERNS)


def test_subjects_have_numbers_that_nothing_else_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[int] = []

    def noted(number: int) -> Look:
        numbers.append(number)
        return random_subject(number)

    monkeypatch.setattr(module, "random_subject", noted)
    lookalikes.cache_clear()
    for group in range(50):
        lookalikes(3, group)
    assert len(numbers) > 10 and min(numbers) >= FIRST_SUBJECT == 1_000_000


def test_a_fixed_subject_is_never_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The looks of group 7 are made fixed subjects, at another height, and are then not drawn any more."""
    fixed = lookalikes(3, 7)
    monkeypatch.setitem(SUBJECTS, "first", replace(fixed[0], stretch=1.5))
    lookalikes.cache_clear()
    assert look_truth(fixed[0]) not in [look_truth(look) for look in lookalikes(3, 7)]
    monkeypatch.delitem(SUBJECTS, "first")
    monkeypatch.setitem(SUBJECTS, "last", replace(fixed[3], stretch=1.5))
    lookalikes.cache_clear()
    again = lookalikes(3, 7)
    assert again[:3] == fixed[:3] and look_truth(again[3]) != look_truth(fixed[3])
    lookalikes.cache_clear()


def test_an_object_is_seen_in_four_places_and_its_group_in_the_same_ones() -> None:
    for group in (0, 5):
        scenes = [lookalike_scene(3, group * GROUP + within) for within in range(GROUP)]
        assert [scene.look for scene in scenes] == [look for look in lookalikes(3, group) for _ in range(VIEWS)]
        places = [tuple(scene.place for scene in scenes[start : start + VIEWS]) for start in range(0, GROUP, VIEWS)]
        assert len(set(places)) == 1 and len(set(places[0])) == VIEWS
        assert len({scene.view for scene in scenes}) == GROUP
    assert lookalike_scene(3, 5) == lookalike_scene(3, 5)
    assert len({lookalike_scene(3, group * GROUP).place for group in range(40)}) > 4


def test_a_tenth_of_the_groups_is_held_out_one_at_least_and_62_at_most() -> None:
    assert [num_groups_seen(num) for num in (32, 47, 100, 320, 9920, 32_000)] == [1, 1, 5, 18, 558, 1938]


def test_pairs_are_two_pictures_of_every_object_of_different_groups() -> None:
    rows = draw_pairs(10, most=6, random=generator(1))
    one, two = rows.chunk(2)
    assert len(one) == 6 * MEMBERS
    assert torch.equal(one // VIEWS, two // VIEWS)
    assert not (one == two).any()
    objects = one // VIEWS
    assert len(objects.unique()) == len(objects)
    groups = (objects // MEMBERS).reshape(6, MEMBERS)
    assert (groups == groups[:, :1]).all() and len(groups[:, 0].unique()) == 6 and groups.max() < 10


def test_every_picture_is_drawn_as_often_as_any_other() -> None:
    drawn = torch.cat([draw_pairs(3, most=2, random=generator(1, step)) for step in range(600)])
    counts = torch.bincount(drawn, minlength=3 * GROUP)
    assert len(counts) == 3 * GROUP
    assert (counts - 200).abs().max() < 55  # 600 times 2/3 times 2/4, within five standard deviations


def test_fewer_groups_than_asked_for_are_all_drawn() -> None:
    rows = draw_pairs(2, most=24, random=generator(1))
    assert sorted(set((rows // GROUP).tolist())) == [0, 1] and len(rows) == 2 * 2 * MEMBERS
    assert torch.equal(rows, draw_pairs(2, most=24, random=generator(1)))
