"""Layered settings: nested mappings merged leaf by leaf."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from dreambooth.config import Settings, parse_settings, section_default, without_silenced
from dreambooth.errors import SettingsError
from dreambooth.schema.leaves import Leaf, leaves

__all__ = ["laid_over", "layered_settings", "merged", "nested", "value_at"]

SettingsType = TypeVar("SettingsType", bound=Settings)


def layered_settings(
    record: type[SettingsType],
    given: Mapping[str, Any],
    below: Mapping[str, Any],
    *,
    where: str,
    name_of: Callable[[Leaf], str],
) -> SettingsType:
    """Defaults, then the tree of values `below`, which comes from the place `where`, then the `given` values by dotted path.

    In messages a setting has the name that `name_of` gives it, unless it comes from `where`. Raises SettingsError with every
    problem at once.
    """
    high = nested(given)
    low = without_silenced(record, below, high)
    values = laid_over(record, merged(_section_defaults(record), low, where), high, where=where)
    names = {leaf.path: name_of(leaf) for leaf in leaves(record) if leaf.path in given or not _is_in(low, leaf.path)}
    return parse_settings(record, values, where=where, names=names)


def laid_over(record: type[Settings], low: Mapping[str, Any], high: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Two layers of values for `record`; `high` wins, and what it makes ineffective leaves `low`, which comes from `where`."""
    return merged(without_silenced(record, low, high), high, where)


def value_at(settings: Settings, path: str) -> Any:
    """The value at a dotted path."""
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


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


def _section_defaults(record: type[Settings]) -> dict[str, Any]:
    made = {name: section_default(record, name) for name in record.model_fields}
    return {name: section.model_dump(exclude_unset=True) for name, section in made.items() if section is not None}


def _is_in(tree: Any, path: str) -> bool:
    for name in path.split("."):
        if not isinstance(tree, Mapping) or name not in tree:
            return False
        tree = tree[name]
    return True
