"""How the examples of a step become forward passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from dreambooth.data.examples import Example
from dreambooth.runtime.processes import share_of
from dreambooth.training.batches import Cut


def examples(num_instances: int, num_priors: int) -> list[Example]:
    photo = cast(Any, Path("a.jpg"))
    roles = [("instance", slot) for slot in range(num_instances)] + [("prior", slot) for slot in range(num_priors)]
    return [Example(cast(Any, role), photo, cast(Any, None), "", slot) for role, slot in roles]


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


def test_processes_cut_what_is_theirs() -> None:
    shares = [Cut(2, share=lambda items, rank=rank: share_of(items, rank=rank, count=2)) for rank in (0, 1)]
    assert [names(share, examples(2, 2)) for share in shares] == [[["i0", "i1"]], [["p0", "p1"]]]
