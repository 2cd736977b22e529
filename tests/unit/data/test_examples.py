from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from dreambooth.data.drawing import PerRole
from dreambooth.data.examples import Example, ExampleSource
from dreambooth.data.records import CaptionedPhoto, Photo, Role
from dreambooth.data.settings import ViewSettings
from dreambooth.data.size import Size
from dreambooth.data.views import all_training_views

ROLES: tuple[Role, ...] = ("instance", "prior")


def captioned(kind: str, number: int) -> tuple[CaptionedPhoto, ...]:
    return tuple(
        CaptionedPhoto(Photo(Path(f"{kind}{index}.jpg"), f"{kind}{index}", 640, 480, None), f"{kind} {index % 2}")
        for index in range(number)
    )


def source(num_instances: int = 5, num_priors: int = 7, **changes: object) -> ExampleSource:
    plain = ExampleSource(
        instances=captioned("photo", num_instances),
        priors=captioned("class", num_priors),
        views=ViewSettings(crop="random"),
        size=Size.square(64),
        examples_per_step=2,
        seed=23,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def digests(examples: tuple[Example, ...], role: Role) -> list[str]:
    return [example.photo.digest for example in examples if example.role == role]


def sequence(of: ExampleSource, role: Role, steps: int) -> list[str]:
    return [digest for step in range(1, steps + 1) for digest in digests(of.examples_at(step), role)]


def test_a_step_holds_photos_and_then_as_many_class_images() -> None:
    examples = source(examples_per_step=3).examples_at(1)
    assert [(example.role, example.slot) for example in examples] == [(role, slot) for role in ROLES for slot in range(3)]
    for example in examples:
        kind = "photo" if example.role == "instance" else "class"
        assert example.photo.digest.startswith(kind)
        assert example.caption == f"{kind} {int(example.photo.digest.removeprefix(kind)) % 2}"


def test_without_class_images_there_are_only_photos() -> None:
    alone = source(num_priors=0)
    assert [example.role for example in alone.examples_at(4)] == ["instance", "instance"]
    assert alone.exposures("prior", 100) == ()
    assert sequence(alone, "instance", 10) == sequence(source(), "instance", 10)


def test_a_step_is_a_pure_function() -> None:
    steps = list(range(1, 60))
    in_order = [source().examples_at(step) for step in steps]
    random.Random(0).shuffle(steps)
    shuffled = {step: source().examples_at(step) for step in steps}
    assert [shuffled[step] for step in sorted(steps)] == in_order


@pytest.mark.parametrize("role", ROLES)
def test_the_order_does_not_depend_on_the_size_of_a_step(role: Role) -> None:
    singly = sequence(source(examples_per_step=1), role, 60)
    assert singly == sequence(source(examples_per_step=4), role, 15) == sequence(source(examples_per_step=60), role, 1)


@pytest.mark.parametrize(("role", "number"), [("instance", 5), ("prior", 7)])
def test_every_round_shows_every_picture_once(role: Role, number: int) -> None:
    shown = sequence(source(examples_per_step=1), role, 10 * number)
    rounds = [tuple(shown[start : start + number]) for start in range(0, len(shown), number)]
    assert all(len(set(one)) == number for one in rounds)
    assert len(set(rounds)) > 5


def test_class_images_are_drawn_independently_of_the_photos() -> None:
    both = source(num_instances=5, num_priors=5, examples_per_step=1)
    pairs = Counter(zip(sequence(both, "instance", 1000), sequence(both, "prior", 1000), strict=True))
    assert len(pairs) == 25  # pairing by index would give 5
    assert max(pairs.values()) < 2 * 1000 / 25


def test_class_images_do_not_change_with_the_photos() -> None:
    assert sequence(source(num_instances=3), "prior", 30) == sequence(source(num_instances=8), "prior", 30)


def test_seeds_give_other_orders_and_other_views() -> None:
    first, second = source(seed=1), source(seed=2)
    assert sequence(first, "instance", 30) != sequence(second, "instance", 30)
    assert sequence(first, "prior", 30) != sequence(second, "prior", 30)


def test_views_differ_from_draw_to_draw() -> None:
    one = source(num_instances=1, examples_per_step=1)
    assert len({one.examples_at(step)[0].view for step in range(1, 200)}) == 16
    assert one.examples_at(5)[0].view.size == Size(64, 64)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 17, 35])
@pytest.mark.parametrize("role", ROLES)
def test_exposures_are_those_of_the_order(role: Role, steps: int) -> None:
    of = source(examples_per_step=3)
    counts = Counter(sequence(of, role, steps))
    pictures = of.instances if role == "instance" else of.priors
    exposures = of.exposures(role, steps)
    assert exposures == tuple(counts[one.photo.digest] for one in pictures)
    assert max(exposures) - min(exposures) <= 1


def test_exposures_of_a_long_run_are_computed_not_counted() -> None:
    start = time.process_time()
    exposures = source(num_priors=1500).exposures("prior", 10**9)
    assert time.process_time() - start < 1
    assert sum(exposures) == 2 * 10**9


def test_views_used_are_exactly_those_of_the_steps() -> None:
    of = source(num_priors=40, examples_per_step=1)
    for steps in (0, 1, 10, 50):
        seen = {(one.photo.digest, one.view) for step in range(1, steps + 1) for one in of.examples_at(step)}
        used = of.views_used(steps)
        assert {(photo.digest, view) for photo, view in used} == seen
        assert len(used) == len(seen)


def test_views_used_stop_growing_when_all_were_seen() -> None:
    of = source(num_instances=2, num_priors=1, views=ViewSettings(crop="center"))
    start = time.process_time()
    used = of.views_used(10**9)
    assert time.process_time() - start < 1
    assert len(used) == 2 * 3
    for photo, view in used:
        assert view in all_training_views(photo, of.views, Size.square(64), of.seed, "instance")


def test_captions_are_listed_once() -> None:
    assert source().captions() == ("photo 0", "photo 1", "class 0", "class 1")


def test_the_order_is_pinned() -> None:
    """Another order would break the resuming of every run made before."""
    assert sequence(source(), "instance", 2) == ["photo3", "photo4", "photo2", "photo1"]
    assert sequence(source(), "prior", 2) == ["class4", "class1", "class3", "class0"]
    assert [(one.view.left, one.view.flip) for one in source().examples_at(3)] == [
        (103, False),
        (129, True),
        (100, False),
        (22, True),
    ]


def test_repeats_make_the_original_s_pairs() -> None:
    of = source(num_instances=3, num_priors=8, repeats=PerRole(2, 10))
    examples = [example for step in range(1, 4) for example in of.examples_at(step)]
    photos = [int(one.photo.digest.removeprefix("photo")) for one in examples if one.role == "instance"]
    others = [int(one.photo.digest.removeprefix("class")) for one in examples if one.role == "prior"]
    assert sorted(zip(photos, others, strict=True)) == [(0, 0), (0, 3), (1, 1), (1, 4), (2, 2), (2, 5)]
    assert of.exposures("prior", 3) == (1, 1, 1, 1, 1, 1, 0, 0)
    assert of.exposures("instance", 3) == (2, 2, 2)


def test_views_used_stop_growing_although_some_pictures_are_never_seen() -> None:
    of = source(num_instances=3, num_priors=8, repeats=PerRole(2, 10), views=ViewSettings(crop="center"))
    start = time.process_time()
    used = of.views_used(10**4)
    assert time.process_time() - start < 1
    assert {photo.digest for photo, _ in used} == {f"photo{index}" for index in range(3)} | {f"class{n}" for n in range(6)}
    assert len(used) == 2 * 9


def test_class_images_may_be_mirrored_otherwise_than_photos() -> None:
    of = source(views=ViewSettings(flip_probability=0, prior_flip_probability=1))
    flips = {(one.role, one.view.flip) for step in range(1, 30) for one in of.examples_at(step)}
    assert flips == {("instance", False), ("prior", True)}
    assert len(source(views=ViewSettings(crop="center", flip_probability=0)).views_used(50)) == 12
    of = source(views=ViewSettings(crop="center", flip_probability=0, prior_flip_probability=0.5))
    start = time.process_time()
    assert len(of.views_used(10**5)) == 5 + 2 * 7
    assert time.process_time() - start < 1  # it knows which views there are, and stops
