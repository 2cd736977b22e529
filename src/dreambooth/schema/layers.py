"""Layered settings: nested mappings merged leaf by leaf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dreambooth.errors import SettingsError

__all__ = ["merged", "nested"]


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn {dotted path: value} into a tree of mappings."""
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *sections, name = path.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return tree


def merged(low: Mapping[str, Any], high: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Merge two trees; `high` wins. Raises SettingsError, naming `where`, if `low` has a value in place of a section."""
    both = {**low, **high}
    for name, value in high.items():
        below = low.get(name, {})
        if isinstance(value, Mapping):
            if not isinstance(below, Mapping):
                raise SettingsError(f"{where}: '{name}' is {below!r}: expected a mapping of settings")
            both[name] = merged(below, value, where)
    return both
