"""How the examples of a step become forward passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from dreambooth.data.examples import Example
from dreambooth.data.size import Size
from dreambooth.data.views import View
from dreambooth.diffusion.latents import LatentMoments
from dreambooth.diffusion.randomness import normal
from dreambooth.runtime.processes import share_of
from dreambooth.training.batches import Cut, Drawn, Encoded, draw

VIEW = View(Size.square(64), top=0, left=0, height=64, width=64, flip=False)


def examples(num_instances: int, num_priors: int) -> list[Example]:
    photo = cast(Any, Path("a.jpg"))
    roles = [("instance", slot) for slot in range(num_instances)] + [("prior", slot) for slot in range(num_priors)]
    return [Example(cast(Any, role), photo, VIEW, "", slot) for role, slot in roles]


def names(cut: Cut, step: list[Example]) -> list[list[str]]:
    return [[f"{example.role[0]}{example.slot}" for example in one] for one in cut(step)]


def test_a_forward_pass_has_as_many_class_images_as_photos() -> None:
    assert names(Cut(2), examples(3, 3)) == [["i0", "i1", "p0", "p1"], ["i2", "p2"]]
    assert names(Cut(2), examples(3, 0)) == [["i0", "i1"], ["i2"]]


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, [["i0"], ["p0"], ["i1"], ["p1"]]), (3, [["i0", "p0"], ["i1", "p1"]]), (None, [["i0", "p0"], ["i1", "p1"]])],
)
def test_a_micro_batch_makes_a_pass_smaller_and_never_larger(size: int | None, expected: list[list[str]]) -> None:
    assert names(Cut(1, size), examples(2, 2)) == expected


def test_a_forward_pass_has_pictures_of_one_size() -> None:
    wide = replace(VIEW, size=Size(48, 80))
    step = [
        replace(one, view=wide) if (one.role, one.slot) in (("instance", 1), ("prior", 0)) else one for one in examples(3, 3)
    ]
    assert names(Cut(3), step) == [["i0", "i2", "p1", "p2"], ["i1", "p0"]]
    assert names(Cut(3, 2), step) == [["i0"], ["i1"], ["i2"], ["p0"], ["p1", "p2"]]


def test_processes_cut_what_is_theirs() -> None:
    shares = [Cut(2, share=lambda items, rank=rank: share_of(items, rank=rank, count=2)) for rank in (0, 1)]
    assert [names(share, examples(2, 2)) for share in shares] == [[["i0", "i1"]], [["p0", "p1"]]]


def drawn(offset: float, slot: int = 0) -> Drawn:
    moments = LatentMoments(torch.zeros(4, 8, 8), torch.ones(4, 8, 8))
    encoded = Encoded({cast(Any, ("d", None)): moments}, {}, 1.0, noise_offset=offset)
    example = Example("instance", cast(Any, SimpleNamespace(digest="d")), cast(Any, None), "", slot)
    return draw(example, encoded, seed=3, step=7, num_timesteps=1000)


def test_the_offset_of_the_noise_is_one_number_for_each_channel_and_example() -> None:
    plain, offset = drawn(0.0), drawn(0.1)
    expected = 0.1 * normal((4, 1, 1), 3, "noise offset", 7, "instance", 0)
    torch.testing.assert_close(offset.eps - plain.eps, expected.expand(4, 8, 8), rtol=0, atol=1e-6)
    assert torch.equal(plain.eps, normal((4, 8, 8), 3, "noise", 7, "instance", 0))
    assert torch.equal(offset.x_0, plain.x_0)
    assert offset.t == plain.t
    assert not torch.allclose(drawn(0.1, slot=1).eps - drawn(0.0, slot=1).eps, offset.eps - plain.eps)
