from __future__ import annotations

import math
from collections import Counter

import numpy as np

from dreambooth.toybox.places import SETTINGS
from dreambooth.toybox.shapes import SHAPES
from dreambooth.toybox.surfaces import PATTERNS
from dreambooth.toybox.world import (
    CLASSES,
    COLOURS,
    ORDINARY_PATTERNS,
    PLACES,
    Scene,
    random_look,
    random_scene,
    random_view,
)


def scenes(num: int) -> list[Scene]:
    return [random_scene(np.random.default_rng([1, index])) for index in range(num)]


def test_every_word_has_something_to_show_for_it() -> None:
    assert set(SHAPES) == set(CLASSES)
    assert set(SETTINGS) == set(PLACES)
    assert set(ORDINARY_PATTERNS) < set(PATTERNS)
    assert len(set(PLACES.values())) == len(PLACES)
    assert all(0 <= level <= 1 for colour in COLOURS.values() for level in colour)


def test_colours_can_be_told_apart() -> None:
    linear = np.array(list(COLOURS.values()))
    apart = np.linalg.norm(linear[:, None] - linear[None], axis=2) + np.eye(len(linear))
    assert apart.min() > 0.3


def test_a_scene_is_a_function_of_the_generator() -> None:
    assert scenes(20) == scenes(20)
    assert len(set(scenes(20))) == 20


def test_every_word_occurs_about_as_often_as_it_should() -> None:
    drawn = scenes(4000)
    even = (
        (Counter(scene.look.class_word for scene in drawn), CLASSES),
        (Counter(scene.place for scene in drawn), PLACES),
        (Counter(scene.look.primary for scene in drawn), COLOURS),
        (Counter(scene.look.secondary for scene in drawn), COLOURS),
    )
    for counts, words in even:
        assert set(counts) == set(words)
        for count in counts.values():
            share = 1 / len(words)
            assert abs(count / 4000 - share) < 4 * math.sqrt(share / 4000)  # 4 standard deviations
    patterns = Counter(scene.look.pattern for scene in drawn)
    assert set(patterns) == set(ORDINARY_PATTERNS)
    assert abs(patterns["plain"] / 4000 - 0.55) < 0.03


def test_the_second_colour_is_another_one() -> None:
    assert all(scene.look.primary != scene.look.secondary for scene in scenes(500))


def test_a_class_word_that_is_given_changes_nothing_else_that_is_drawn_before_it() -> None:
    free, mug = random_look(np.random.default_rng(3)), random_look(np.random.default_rng(3), "mug")
    assert mug.class_word == "mug"
    assert (mug.primary, mug.secondary, mug.accent) == (free.primary, free.secondary, free.accent)


def test_views_stay_within_what_the_camera_and_the_light_allow() -> None:
    views = [random_view(np.random.default_rng([2, index])) for index in range(500)]
    limits = {
        "turn": (0, 2 * math.pi),
        "elevation": (0.12, 0.30),
        "distance": (2.5, 3.4),
        "aside": (-0.28, 0.28),
        "light_turn": (-1.2, 1.2),
        "light_elevation": (0.6, 1.1),
    }
    for name, (low, high) in limits.items():
        values = [getattr(view, name) for view in views]
        assert low <= min(values) < low + 0.05 * (high - low), name
        assert high >= max(values) > high - 0.05 * (high - low), name
    assert len({view.texture for view in views}) == 500
    assert all(0 <= view.texture < 2**31 for view in views)
