"""Training images of the eye: groups of objects that differ from the first one in one attribute each.

Every object is shown several times. All objects of a group are shown in the same places, so only the objects themselves reveal
which images belong together.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from dreambooth.toybox.judge import look_truth
from dreambooth.toybox.subjects import SUBJECTS, random_subject
from dreambooth.toybox.surfaces import PATTERNS
from dreambooth.toybox.world import COLOURS, PLACES, Look, Scene, random_look, random_view

__all__ = ["FIRST_SUBJECT", "GROUP", "MEMBERS", "VIEWS", "draw_pairs", "lookalike_scene", "lookalikes", "num_groups_seen"]

FIRST_SUBJECT = 1_000_000
"""Seed of the first training subject; no other subject of the project has such a high seed."""

MEMBERS = 4
"""Objects per group."""

VIEWS = 4
"""Images per object, each with a different place, view and light."""

GROUP = MEMBERS * VIEWS
"""Images per group: those of the first object, then those of the second, and so on."""

_STREAM = 103
_MOST_HELD_OUT = 62


def num_groups_seen(num: int) -> int:
    """Number of training groups in `num` images; the last tenth of the groups, at least 1 and at most 62, is held out."""
    whole = num // GROUP
    return whole - max(1, min(_MOST_HELD_OUT, whole // 10))


@lru_cache(maxsize=16)
def lookalikes(seed: int, group: int) -> tuple[Look, ...]:
    """The objects of a group: an ordinary object or a subject, and others that differ from it in one visible attribute.

    None looks like one of the fixed subjects, which are reserved for evaluation.
    """
    random = np.random.default_rng([_STREAM, seed, group, 0])
    fixed = {_visible(look) for look in SUBJECTS.values()}
    first = _drawn(random)
    while _visible(first) in fixed:
        first = _drawn(random)
    looks = {_visible(first): first}
    while len(looks) < MEMBERS:
        other = _changed(random, first)
        if _visible(other) not in fixed:
            looks.setdefault(_visible(other), other)
    return tuple(looks.values())


def lookalike_scene(seed: int, index: int) -> Scene:
    """The scene of image `index`. The k-th images of all objects of a group show the same place."""
    group, within = divmod(index, GROUP)
    member, view = divmod(within, VIEWS)
    places = np.random.default_rng([_STREAM, seed, group, 1]).permutation(list(PLACES))
    taken = random_view(np.random.default_rng([_STREAM, seed, group, 2 + within]))
    return Scene(lookalikes(seed, group)[member], str(places[view]), taken)


def draw_pairs(num_groups: int, *, most: int, random: torch.Generator) -> Tensor:
    """Indices of two different images of every object of `most` different groups among the first `num_groups`, (2N,).

    The first N indices are one image of each object, the others the second images in the same order.
    """
    groups_G = torch.randperm(num_groups, generator=random)[:most]
    objects_N = (groups_G.unsqueeze(1) * MEMBERS + torch.arange(MEMBERS)).flatten()
    views_N2 = torch.rand((len(objects_N), VIEWS), generator=random).argsort(dim=1)[:, :2]
    return (objects_N.unsqueeze(1) * VIEWS + views_N2).T.flatten()


def _drawn(random: np.random.Generator) -> Look:
    if random.random() < 0.5:
        return random_look(random)
    return random_subject(int(random.integers(FIRST_SUBJECT, 2**31)))


def _changed(random: np.random.Generator, look: Look) -> Look:
    """The same object with another pattern, or with a color that it does not have; the change may be invisible."""
    name = str(random.choice(("pattern", "primary", "secondary", "accent")))
    has = {look.pattern, look.primary, look.secondary, look.accent}
    value = str(random.choice([word for word in (PATTERNS if name == "pattern" else COLOURS) if word not in has]))
    changed: Look = replace(look, **{name: value})  # type: ignore[arg-type]
    return changed


def _visible(look: Look) -> tuple[int, ...]:
    return tuple(look_truth(look).values())
