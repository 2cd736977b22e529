from __future__ import annotations

import pickle
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dreambooth.toybox.captions import caption
from dreambooth.toybox.judge import ATTRIBUTES, UNASKED
from dreambooth.toybox.render import render
from dreambooth.toybox.subjects import SUBJECT_PATTERNS, individuals
from dreambooth.toybox.world import ORDINARY_PATTERNS
from experiments.toybox import pictures as module
from experiments.toybox.lookalikes import lookalike_scene
from experiments.toybox.pictures import PictureSet, mirrored_at_random, to_pixels


class PoolHere:
    """Does the work of a pool of processes in this one, as it would arrive at another, and in another order."""

    def imap_unordered(self, work: Callable[[int], int], shards: Iterable[int]) -> Iterator[int]:
        return map(pickle.loads(pickle.dumps(work)), reversed(list(shards)))


@contextmanager
def pool_here(processes: int, initializer: object, arguments: tuple[object, ...]) -> Iterator[PoolHere]:
    assert arguments == (signal.SIGINT, signal.SIG_IGN)
    yield PoolHere()


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pictures to a shard."""
    monkeypatch.setattr(module, "_SHARD", 2)
    monkeypatch.setattr(module.multiprocessing, "get_context", lambda kind: SimpleNamespace(Pool=pool_here))


def pictures(folder: Path, num: int = 5, **changes: object) -> PictureSet:
    return replace(PictureSet(folder, num, side=8, seed=11), **changes)  # type: ignore[arg-type]


def test_what_a_picture_shows_is_a_function_of_seed_and_index(tmp_path: Path) -> None:
    one, same, other = pictures(tmp_path), pictures(tmp_path / "b", num=9), pictures(tmp_path, seed=12)
    records = [one.record(index) for index in range(60)]
    assert records == [same.record(index) for index in range(60)]
    assert len({record.scene for record in records}) == 60
    assert not {record.scene for record in records} & {other.record(index).scene for index in range(60)}


def test_every_seventh_picture_shows_the_next_individual(tmp_path: Path) -> None:
    named = individuals()
    world = pictures(tmp_path)
    for index in range(0, 7 * len(named) * 2, 7):
        drawn = world.record(index)
        assert drawn.name == list(named)[index // 7 % len(named)]
        assert drawn.scene.look == named[drawn.name]
    for index in (index for index in range(100) if index % 7):
        drawn = world.record(index)
        assert drawn.name is None and drawn.scene.look.pattern in ORDINARY_PATTERNS


def test_a_set_of_subjects_shows_a_new_one_in_every_picture(tmp_path: Path) -> None:
    drawn = [pictures(tmp_path, shows="subjects").record(index) for index in range(100)]
    assert {one.name for one in drawn} == {None}
    assert {one.scene.look.pattern for one in drawn} == set(SUBJECT_PATTERNS)
    assert len({one.scene.look for one in drawn}) == 100
    assert not {one.scene.look for one in drawn} & set(individuals().values())


def test_a_set_of_lookalikes_shows_their_groups(tmp_path: Path) -> None:
    some = pictures(tmp_path, shows="lookalikes")
    for index in range(40):
        assert some.record(index) == module.Drawn(lookalike_scene(11, index), None)


def test_half_of_the_pictures_are_mirrored() -> None:
    pixels = torch.arange(400.0).reshape(400, 1, 1, 1) + torch.tensor([0.0, 0.25, 0.5])
    shown = mirrored_at_random(pixels.clone(), torch.Generator().manual_seed(1))
    is_mirrored = (shown == pixels.flip(3)).all(dim=(1, 2, 3))
    assert ((shown == pixels).all(dim=(1, 2, 3)) ^ is_mirrored).all()
    assert float(is_mirrored.float().mean()) == pytest.approx(0.5, abs=0.08)  # 3 standard deviations


def test_the_last_tenth_is_held_out_but_no_more_than_a_thousand(tmp_path: Path) -> None:
    assert [pictures(tmp_path, num=num).num_seen for num in (100, 105, 9999, 10_000, 56_000)] == [90, 95, 9000, 9000, 55_000]


def test_captions_are_about_the_picture_and_every_draw_may_differ(tmp_path: Path) -> None:
    world = pictures(tmp_path)
    for index in range(14):
        drawn = world.record(index)
        said = [world.caption(index, draw=draw) for draw in range(8)]
        assert said == [world.caption(index, draw=draw) for draw in range(8)]
        assert len(set(said)) > 1
        expected = caption(np.random.default_rng([11, index, 4]), drawn.scene, name=drawn.name)
        assert said[3] == expected
        assert all(drawn.scene.look.class_word in text for text in said)
        assert drawn.name is None or any(drawn.name in text for text in said)


@pytest.mark.parametrize("shows", ["world", "subjects", "lookalikes"])
def test_labels_are_those_of_the_records(tmp_path: Path, shows: str) -> None:
    some = pictures(tmp_path, num=30, shows=shows)
    labels = some.labels()
    assert set(labels) == set(ATTRIBUTES)
    for index in range(30):
        scene = some.record(index).scene
        assert ATTRIBUTES["class"][labels["class"][index]] == scene.look.class_word
        assert ATTRIBUTES["place"][labels["place"][index]] == scene.place
        assert ATTRIBUTES["primary"][labels["primary"][index]] == scene.look.primary
        assert (labels["secondary"][index] == UNASKED) == (scene.look.pattern == "plain")


@pytest.mark.usefixtures("small_shards")
def test_pictures_are_rendered_and_loaded_in_their_order(tmp_path: Path) -> None:
    some, counts = pictures(tmp_path / "pictures"), []
    some.render_missing(processes=2, advance=counts.append)
    assert sum(counts) == 5
    assert torch.equal(some.load(3), some.load()[:3])
    assert torch.equal(some.load(99), some.load())
    assert [path.name for path in sorted(some.folder.iterdir())] == [f"pictures-0000{shard}.npy" for shard in range(3)]
    loaded = some.load()
    assert loaded.shape == (5, 8, 8, 3) and loaded.dtype == torch.uint8
    for index in range(5):
        np.testing.assert_array_equal(loaded[index].numpy(), render(some.record(index).scene, 8))


@pytest.mark.usefixtures("small_shards")
def test_shards_that_are_there_are_not_rendered_again(tmp_path: Path) -> None:
    some, counts = pictures(tmp_path), []
    some.render_missing(processes=2, advance=lambda num: None)
    before = some.load()
    marked = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "pictures-00001.npy", marked)
    (tmp_path / "pictures-00002.npy").unlink()  # the last one, which is smaller
    assert some.num_missing() == 1
    some.render_missing(processes=2, advance=counts.append)
    assert counts == [1]
    assert some.num_missing() == 0
    after = some.load()
    assert torch.equal(after[2:4], torch.from_numpy(marked))
    assert torch.equal(after[[0, 1, 4]], before[[0, 1, 4]])


def test_pixels_are_between_minus_one_and_one() -> None:
    eight_bits = torch.arange(256, dtype=torch.uint8).reshape(1, 2, 128, 1).expand(1, 2, 128, 3).clone()
    eight_bits[..., 1] = 0
    pixels = to_pixels(eight_bits)
    assert pixels.shape == (1, 3, 2, 128) and pixels.dtype == torch.float32
    assert pixels.min() == -1 and pixels.max() == 1
    assert torch.equal(pixels[0, 1], torch.full((2, 128), -1.0))
    torch.testing.assert_close(pixels[0, 0].flatten(), torch.linspace(-1, 1, 256))
