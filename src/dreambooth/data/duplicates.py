"""Pictures that show the same: exactly, or nearly.

A perceptual hash finds near duplicates: the signs of the lowest frequencies of a cosine transform of the small grey
picture against their median (after Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010). It
survives another size, compression and brightness; a mirrored copy is found by hashing the mirrored picture too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dreambooth.data.decoding import Pixels

__all__ = ["NEAR_DISTANCE", "Duplicate", "Fingerprint", "find_duplicates", "fingerprint"]

NEAR_DISTANCE = 8
"""Images whose hashes differ in at most this many of 64 bits are nearly identical; unrelated ones differ in about 32."""

_SIDE = 32
_FREQUENCIES = 8


@dataclass(frozen=True)
class Fingerprint:
    """What tells two pictures apart: a digest of all pixels, and the hash bits (64,) of the picture and its mirror image."""

    pixels: str
    bits: NDArray[np.bool_]
    mirrored_bits: NDArray[np.bool_]


@dataclass(frozen=True)
class Duplicate:
    """Picture number `index` repeats the earlier picture number `original`."""

    index: int
    original: int
    kind: str


def fingerprint(pixels: Pixels) -> Fingerprint:
    """The fingerprint of pixels (H, W, 3 or 4); alpha counts only for the exact part."""
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=16, key=repr(pixels.shape).encode()).hexdigest()
    small = Image.fromarray(pixels[:, :, :3]).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    grey = np.asarray(small, dtype=np.float64)
    return Fingerprint(digest, _hash_bits(grey), _hash_bits(grey[:, ::-1]))


def _hash_bits(grey: NDArray[np.float64]) -> NDArray[np.bool_]:
    position, frequency = np.arange(_SIDE), np.arange(_FREQUENCIES)
    cosine = np.cos(np.pi / _SIDE * (position[None, :] + 0.5) * frequency[:, None])  # DCT-II, unnormalised
    spectrum = np.round((cosine @ grey @ cosine.T).reshape(-1), 6)  # rounding noise is no pattern
    spectrum[0] = 0  # the mean brightness says nothing about what is shown
    bits: NDArray[np.bool_] = spectrum > np.median(spectrum[1:])
    return bits


def find_duplicates(fingerprints: Sequence[Fingerprint], *, near: bool) -> list[Duplicate]:
    """For every picture that repeats an earlier one, the closest such; nearly equal ones only when `near` is true."""
    first_with: dict[str, int] = {}
    found: list[Duplicate] = []
    bits = np.array([one.bits for one in fingerprints])
    for index, one in enumerate(fingerprints):
        original = first_with.setdefault(one.pixels, index)
        if original != index:
            found.append(Duplicate(index, original, "identical to"))
        elif near and index > 0:
            straight = (bits[:index] != one.bits).sum(axis=1)
            mirrored = (bits[:index] != one.mirrored_bits).sum(axis=1)
            closest = int(np.minimum(straight, mirrored).argmin())
            if straight[closest] <= NEAR_DISTANCE:
                found.append(Duplicate(index, closest, "nearly identical to"))
            elif mirrored[closest] <= NEAR_DISTANCE:
                found.append(Duplicate(index, closest, "nearly a mirror image of"))
    return found
