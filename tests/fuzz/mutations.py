"""Seeded damage to files: what disks, downloads, editors and people who mean harm do to them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

__all__ = ["mutated"]

_TOKENS = (
    *(
        b"\x00",
        b"\x1b[2J",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"{",
        b"}",
        b"{0.__class__}",
        b"{token!r:>99999999}",
        b"%s",
        b"<script>",
    ),
    *(b"9" * 5000, b"-1", b"1e999", b"NaN", b"null", b"true", b"18446744073709551616", b"2024-13-45", b"0x" + b"f" * 40),
    *(b"[" * 3000, b'{"a":' * 3000, b"&a [*a]", b"!!python/name:os.system", b"\r\n\r\n", b"../../", b"\xe2\x80\xae", b"\n"),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 10**30, float("nan"), float("inf"), "", "x", "\x1b[31m", "{a}", "\ud800", [], {}, [1], {"a": 1}),
    *([[[[[]]]]], ["x"] * 3, {"": {"": None}}, "9" * 400, "/dev/zero", "~nosuchuser", "a\x00b"),
)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The data with one to four kinds of damage."""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        data = chance.choice(_MUTATIONS)(data, chance)
    return data


def _place(data: bytes, chance: random.Random) -> int:
    """A place in the data: half of the time near the start, where headers are."""
    end = len(data) if chance.random() < 0.5 else min(len(data), 200)
    return chance.randrange(end + 1)


def _flip(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 3, 20)) if data else 0):
        changed[min(_place(data, chance), len(data) - 1)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: _place(data, chance)]


def _remove(data: bytes, chance: random.Random) -> bytes:
    start = _place(data, chance)
    return data[:start] + data[start + chance.choice((1, 4, 30, 500)) :]


def _repeat(data: bytes, chance: random.Random) -> bytes:
    start, length = _place(data, chance), chance.choice((1, 8, 100, 2000))
    return data[:start] + data[start : start + length] * chance.choice((2, 3, 50)) + data[start + length :]


def _insert(data: bytes, chance: random.Random) -> bytes:
    start = _place(data, chance)
    return data[:start] + chance.choice((chance.choice(_TOKENS), chance.randbytes(chance.randrange(1, 40)))) + data[start:]


def _overwrite(data: bytes, chance: random.Random) -> bytes:
    start, token = _place(data, chance), chance.choice(_TOKENS)
    return data[:start] + token + data[start + chance.choice((1, 4, len(token))) :]


def _zeros(data: bytes, chance: random.Random) -> bytes:
    start = _place(data, chance)
    length = min(len(data) - start, chance.choice((1, 16, 4096)))
    return data[:start] + bytes(length) + data[start + length :]


def _other_values(data: bytes, chance: random.Random) -> bytes:
    """Of JSON, or of one of its lines: a key or an element is left out, renamed, or given another value."""
    lines = data.split(b"\n")
    number = chance.randrange(len(lines))
    for text, rebuilt in (
        (data, lambda new: new),
        (lines[number], lambda new: b"\n".join([*lines[:number], new, *lines[number + 1 :]])),
    ):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict | list) and value:
            _change_inside(value, chance)
            return rebuilt(json.dumps(value).encode())
    return _insert(data, chance)


def _change_inside(value: Any, chance: random.Random) -> None:
    key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
    if isinstance(value[key], dict | list) and value[key] and chance.random() < 0.7:
        _change_inside(value[key], chance)
    elif chance.random() < 0.3:
        del value[key]
    elif isinstance(value, dict) and chance.random() < 0.2:
        value[chance.choice(("", "a.b", "{x}", "\x1b", key.upper()))] = value.pop(key)
    else:
        value[key] = chance.choice(_VALUES)


_MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_flip, _cut, _remove, _repeat, _insert, _overwrite, _zeros),
    *(_other_values, _other_values, _other_values),
)
