from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from dreambooth.families.tokens import describe_token
from dreambooth.toybox.captions import _OPENINGS, caption, describe
from dreambooth.toybox.subjects import individuals
from dreambooth.toybox.world import CLASSES, COLOURS, ORDINARY_PATTERNS, PLACES, Look, Scene, random_scene

VOCABULARY = {
    *itertools.chain(*(opening.split() for opening in _OPENINGS)),
    *itertools.chain(*(words.split() for words in PLACES.values())),
    *CLASSES,
    *COLOURS,
    *ORDINARY_PATTERNS,
    "a",
    "an",
    "and",
}


def said(num: int = 1500, *, name: str | None = None) -> Iterator[tuple[Scene, str]]:
    for number in range(num):
        random = np.random.default_rng([6, number])
        scene = random_scene(random)
        yield scene, caption(random, scene, name=name)


def split(text: str) -> tuple[str, list[str], str]:
    """Opening, words about the object, and place."""
    opening = next(o for o in sorted(_OPENINGS, key=len, reverse=True) if text.startswith(o))
    place = next((words for words in PLACES.values() if text.endswith(words)), "")
    article, *words = text.removeprefix(opening).removesuffix(place).split()
    assert article == ("an" if words[0][0] in "aeiou" else "a"), text
    return opening, words, place


def test_captions_are_true() -> None:
    for scene, text in said():
        assert set(text.split()) <= VOCABULARY, text
        _, words, place = split(text)
        assert words[-1] == scene.look.class_word
        assert place in ("", PLACES[scene.place])
        colours = [word for word in words if word in COLOURS]
        assert colours == [scene.look.primary, scene.look.secondary][: len(colours)]
        patterns = [word for word in words if word in ORDINARY_PATTERNS]
        assert patterns in ([], [scene.look.pattern])
        if scene.look.pattern == "plain":
            assert len(colours) <= 1 and patterns == []
        assert len(words) == 1 + len(colours) + len(patterns) + ("and" in words)
        assert ("and" in words) == (len(colours) == 2)


def test_everything_is_said_often_and_left_out_often() -> None:
    texts = list(said())
    parts = [(scene, *split(text)) for scene, text in texts]
    assert {opening for _, opening, _, _ in parts} == set(_OPENINGS)
    assert sum(bool(place) for *_, place in parts) / len(parts) == pytest.approx(0.7, abs=0.04)
    patterned = [words for scene, _, words, _ in parts if scene.look.pattern != "plain"]
    assert sum(bool(set(words) & set(ORDINARY_PATTERNS)) for words in patterned) / len(patterned) == pytest.approx(
        0.7, abs=0.06
    )
    for count, share in enumerate((0.3, 0.35, 0.35)):
        found = sum(sum(word in COLOURS for word in words) == count for words in patterned) / len(patterned)
        assert found == pytest.approx(share, abs=0.06)
    plain = [words for scene, _, words, _ in parts if scene.look.pattern == "plain"]
    assert sum(len(words) == 1 for words in plain) / len(plain) == pytest.approx(0.3, abs=0.06)


def test_the_words_that_a_person_would_use() -> None:
    striped, plain = Look("mug", "striped", "red", "white", "blue"), Look("ball", "plain", "orange", "white", "blue")
    assert describe(striped, num_colors=2, has_pattern=True) == "red and white striped mug"
    assert describe(striped, num_colors=1, has_pattern=True) == "red striped mug"
    assert describe(striped, num_colors=0, has_pattern=True) == "striped mug"
    assert describe(striped, num_colors=2, has_pattern=False) == "red and white mug"
    assert describe(striped, num_colors=0, has_pattern=False) == "mug"
    assert describe(plain, num_colors=2, has_pattern=True) == "orange ball"
    assert describe(plain, num_colors=0, has_pattern=True) == "ball"


def test_a_name_stands_where_the_looks_would_stand() -> None:
    named = 0
    for scene, text in said(name="adora"):
        _, words, place = split(text)
        assert words in (["adora", scene.look.class_word], [scene.look.class_word])
        assert place in ("", PLACES[scene.place])
        named += words[0] == "adora"
    assert named / 1500 == pytest.approx(0.85, abs=0.04)


def test_every_word_is_one_token_and_no_name_is_such_a_word() -> None:
    assert [word for word in VOCABULARY if len(describe_token(word).ids) != 1] == []
    assert VOCABULARY & set(individuals()) == set()
