"""Which picture comes at which draw: each role in rounds of its own, subjects by shares, or the original's pairs.

Draws of a role are numbered from 0 over the whole run; all ways are pure functions of the seed and that number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Protocol

from dreambooth.data.records import Role
from dreambooth.data.settings import PriorSettings
from dreambooth.diffusion.randomness import Key, permutation

__all__ = ["Drawing", "OriginalPairs", "PerRole", "Rounds", "Share", "Shares", "drawing", "num_entries", "repeats_of"]


@dataclass(frozen=True)
class PerRole:
    """One number for the photos and one for the class images."""

    instance: int
    prior: int

    def of(self, role: Role) -> int:
        """The number of a role."""
        return self.instance if role == "instance" else self.prior


class Drawing(Protocol):
    """A way of drawing from as many pictures as there are of each role; nothing may be drawn from none."""

    def index(self, role: Role, draw: int) -> int:
        """Which picture of its role a draw shows."""

    def exposures(self, role: Role, num_draws: int) -> tuple[int, ...]:
        """How often the first draws show each picture of a role."""

    def num_reached(self, role: Role) -> int:
        """How many pictures of a role are ever shown, which are the first ones."""


@dataclass(frozen=True)
class Rounds:
    """Each role in rounds: a round shows every picture once, in an order of its own.

    At any moment no two pictures of a role were shown more often than once apart.
    """

    num_pictures: PerRole
    seed: int

    def index(self, role: Role, draw: int) -> int:
        """See `Drawing`."""
        round_index, position = divmod(draw, self.num_pictures.of(role))
        return self._order(role, round_index)[position]

    def exposures(self, role: Role, num_draws: int) -> tuple[int, ...]:
        """See `Drawing`."""
        num = self.num_pictures.of(role)
        rounds, rest = divmod(num_draws, num)
        seen_again = set(self._order(role, rounds)[:rest])
        return tuple(rounds + (index in seen_again) for index in range(num))

    def num_reached(self, role: Role) -> int:
        """See `Drawing`."""
        return self.num_pictures.of(role)

    def _order(self, role: Role, round_index: int) -> tuple[int, ...]:
        return _order(self.num_pictures.of(role), self.seed, "order", role, round_index)


@dataclass(frozen=True)
class Share:
    """Photos of one subject, and how often the subject is shown relative to the others."""

    num_photos: int
    weight: float = 1.0


@dataclass(frozen=True)
class Shares:
    """Photos of several subjects, each subject shown as often as its weight says, its photos in rounds; class images in rounds.

    The photos of a subject follow one another. A turn of the subjects shows each as often as its weight, in whole numbers, in
    an order of its own; so at any moment no subject is further from its share than one turn.
    """

    shares: tuple[Share, ...]
    num_priors: int
    seed: int

    def index(self, role: Role, draw: int) -> int:
        """See `Drawing`."""
        if role == "prior":
            return self._priors.index(role, draw)
        turn, position = divmod(draw, len(self._turn))
        order = self._order(turn)
        subject = self._turn[order[position]]
        before = sum(self._turn[place] == subject for place in order[:position])
        own = turn * self._turn.count(subject) + before
        round_index, place = divmod(own, self.shares[subject].num_photos)
        return self._first(subject) + self._photo_order(subject, round_index)[place]

    def exposures(self, role: Role, num_draws: int) -> tuple[int, ...]:
        """See `Drawing`."""
        if role == "prior":
            return self._priors.exposures(role, num_draws)
        turns, rest = divmod(num_draws, len(self._turn))
        in_last = Counter(self._turn[place] for place in self._order(turns)[:rest])
        seen: list[int] = []
        for subject, share in enumerate(self.shares):
            rounds, more = divmod(turns * self._turn.count(subject) + in_last[subject], share.num_photos)
            seen_again = set(self._photo_order(subject, rounds)[:more])
            seen += [rounds + (place in seen_again) for place in range(share.num_photos)]
        return tuple(seen)

    def num_reached(self, role: Role) -> int:
        """See `Drawing`."""
        return self.num_priors if role == "prior" else sum(share.num_photos for share in self.shares)

    @property
    def _priors(self) -> Rounds:
        return Rounds(PerRole(self.num_reached("instance"), self.num_priors), self.seed)

    @property
    def _turn(self) -> tuple[int, ...]:
        return _turn(tuple(share.weight for share in self.shares))

    def _first(self, subject: int) -> int:
        return sum(share.num_photos for share in self.shares[:subject])

    def _order(self, turn: int) -> tuple[int, ...]:
        return _order(len(self._turn), self.seed, "subjects", turn)

    def _photo_order(self, subject: int, round_index: int) -> tuple[int, ...]:
        return _order(self.shares[subject].num_photos, self.seed, "order of subject", subject, round_index)


@lru_cache(maxsize=8)
def _turn(weights: tuple[float, ...]) -> tuple[int, ...]:
    """The subjects of one turn: the smallest whole numbers in the proportions of the weights, to a hundredth."""
    parts = [Fraction(round(100 * weight), 100) for weight in weights]
    wholes = [int(part * math.lcm(*(part.denominator for part in parts))) for part in parts]
    return tuple(subject for subject, whole in enumerate(wholes) for _ in range(whole // math.gcd(*wholes)))


@dataclass(frozen=True)
class OriginalPairs:
    """The original's pairs: one entry of an epoch is photo i modulo their number beside class image i modulo theirs.

    An epoch has all entries in an order of its own. It is as long as the shorter of the two sets with its repeats, so the tail
    of a large set is never shown.
    """

    num_pictures: PerRole
    repeats: PerRole
    seed: int

    @property
    def num_entries(self) -> int:
        """Length of an epoch."""
        return num_entries(self.num_pictures, self.repeats)

    def index(self, role: Role, draw: int) -> int:
        """See `Drawing`."""
        epoch, position = divmod(draw, self.num_entries)
        return self._order(epoch)[position] % self.num_pictures.of(role)

    def exposures(self, role: Role, num_draws: int) -> tuple[int, ...]:
        """See `Drawing`."""
        num = self.num_pictures.of(role)
        epochs, rest = divmod(num_draws, self.num_entries)
        in_each, of_first = divmod(self.num_entries, num)
        in_last = Counter(entry % num for entry in self._order(epochs)[:rest])
        return tuple(epochs * (in_each + (index < of_first)) + in_last[index] for index in range(num))

    def num_reached(self, role: Role) -> int:
        """See `Drawing`."""
        return min(self.num_pictures.of(role), self.num_entries)

    def _order(self, epoch: int) -> tuple[int, ...]:
        return _order(self.num_entries, self.seed, "pairs", epoch)


def num_entries(num_pictures: PerRole, repeats: PerRole) -> int:
    """Entries of an epoch as the original counts them: photos with their repeats, or class images if they are fewer."""
    photos = repeats.instance * num_pictures.instance
    return photos if num_pictures.prior == 0 else min(photos, repeats.prior * num_pictures.prior)


def repeats_of(prior: PriorSettings) -> PerRole | None:
    """The repeats of the original's pairs; None when each role is drawn in rounds."""
    return PerRole(prior.photo_repeats, prior.prior_repeats) if prior.original_pairing else None


def drawing(num_pictures: PerRole, repeats: PerRole | None, *, seed: int, shares: Sequence[Share] = ()) -> Drawing:
    """Pairs when there are repeats, shares when subjects have some, else rounds."""
    if shares:
        assert repeats is None, "pairs know no subjects"
        return Shares(tuple(shares), num_pictures.prior, seed)
    return Rounds(num_pictures, seed) if repeats is None else OriginalPairs(num_pictures, repeats, seed)


@lru_cache(maxsize=64)
def _order(length: int, seed: int, *key: Key) -> tuple[int, ...]:
    return tuple(permutation(length, seed, *key))
