from __future__ import annotations

from dataclasses import replace

from dreambooth.families.tokens import describe_token, propose_tokens
from dreambooth.toybox.judge import look_truth
from dreambooth.toybox.subjects import (
    HELD_OUT_SEED,
    PHOTO_SEED,
    SUBJECT_PATTERNS,
    SUBJECTS,
    individuals,
    random_subject,
    subject_scenes,
)
from dreambooth.toybox.surfaces import PATTERNS
from dreambooth.toybox.world import CLASSES, COLOURS, ORDINARY_PATTERNS, PLACES, Look


def visible(look: Look) -> tuple[tuple[str, int], ...]:
    """What tells a look from others in a picture; its height does not."""
    return tuple(sorted(look_truth(look).items()))


def test_ten_fixed_subjects_over_many_classes() -> None:
    assert len(SUBJECTS) >= 10
    assert len({look.class_word for look in SUBJECTS.values()}) >= 5
    assert all(name == f"{look.pattern}-{look.class_word}" for name, look in SUBJECTS.items())
    for look in SUBJECTS.values():
        assert look.class_word in CLASSES and {look.primary, look.secondary, look.accent} <= set(COLOURS)
        assert look.primary != look.secondary


def test_no_caption_has_a_word_for_the_pattern_of_a_subject() -> None:
    assert set(SUBJECT_PATTERNS) == set(PATTERNS) - set(ORDINARY_PATTERNS)
    looks = [*SUBJECTS.values(), *individuals().values(), *(random_subject(number) for number in range(50))]
    assert {look.pattern for look in looks} == set(SUBJECT_PATTERNS)


def test_no_two_subjects_or_individuals_look_the_same() -> None:
    looks = [*SUBJECTS.values(), *individuals().values()]
    assert len({visible(look) for look in looks}) == len(looks) == len(SUBJECTS) + len(individuals())


def test_a_random_subject_is_a_function_of_its_number() -> None:
    looks = [random_subject(number) for number in range(300)]
    assert looks == [random_subject(number) for number in range(300)]
    assert len({visible(look) for look in looks}) > 290
    assert {look.class_word for look in looks} == set(CLASSES)
    assert all(len({look.primary, look.secondary, look.accent}) == 3 for look in looks)
    assert all(0.92 <= look.stretch <= 1.1 for look in looks)


def test_a_class_word_that_is_given_changes_the_class_alone() -> None:
    for number in range(20):
        assert random_subject(number, "mug") == replace(random_subject(number), class_word="mug")


def test_photos_show_the_same_object_in_other_places_and_views() -> None:
    look = SUBJECTS["zigzag-mug"]
    scenes = subject_scenes(look, num=10, seed=3)
    assert scenes == subject_scenes(look, num=10, seed=3)
    assert {scene.look for scene in scenes} == {look}
    assert len({scene.view for scene in scenes}) == 10
    first = [scene.place for scene in scenes[: len(PLACES)]]
    assert set(first) == set(PLACES)
    assert [scene.place for scene in scenes[len(PLACES) :]] == first[: 10 - len(PLACES)]


def test_more_photos_begin_with_the_same_ones_and_other_seeds_give_others() -> None:
    look = SUBJECTS["banded-car"]
    assert subject_scenes(look, num=9, seed=3)[:4] == subject_scenes(look, num=4, seed=3)
    views = {scene.view for seed in range(5) for scene in subject_scenes(look, num=6, seed=seed)}
    assert len(views) == 30
    other = subject_scenes(SUBJECTS["marked-ball"], num=4, seed=3)
    assert [scene.view for scene in other] == [scene.view for scene in subject_scenes(look, num=4, seed=3)]


def test_a_subject_is_measured_in_scenes_that_it_was_not_learned_from() -> None:
    look = SUBJECTS["banded-container"]
    learned, measured = (subject_scenes(look, num=50, seed=seed) for seed in (PHOTO_SEED, HELD_OUT_SEED))
    assert {scene.view for scene in learned} & {scene.view for scene in measured} == set()


def test_names_are_single_rare_tokens_that_nobody_is_told_to_use() -> None:
    names = list(individuals())
    assert len(names) > 100 and len(set(names)) == len(names)
    assert [name for name in names if len(describe_token(name).ids) != 1] == []
    assert [name for name in names if any("common" in warning for warning in describe_token(name).warnings)] == []
    assert set(names) & {*propose_tokens(1000), "sks", "ohwx"} == set()
    assert individuals()[names[0]] == random_subject(2022) and individuals()[names[5]] == random_subject(2027)
