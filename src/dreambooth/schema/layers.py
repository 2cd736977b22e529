"""Layered settings: nested mappings merged leaf by leaf."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, get_args

from dreambooth.config import Settings, parse_settings, section_default, section_of, without_silenced
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
    if problems := list(_off_below(record, low, high, where, name_of={leaf.path: name_of(leaf) for leaf in leaves(record)})):
        raise SettingsError(problems)
    values = laid_over(record, merged(_section_defaults(record), low, where), high, where=where)
    names = {leaf.path: name_of(leaf) for leaf in leaves(record) if leaf.path in given or not _is_in(low, leaf.path)}
    return parse_settings(record, values, where=where, names=names)


def _off_below(
    record: type[Settings],
    low: Mapping[str, Any],
    high: Mapping[str, Any],
    where: str,
    *,
    name_of: Mapping[str, str],
    path: str = "",
) -> Iterator[str]:
    """A message for each switch that the lower layer, from the place `where`, turns off although the upper one relies on it."""
    for switch, silenced in record.off_switches.items():
        field, _, value = switch.partition("=")
        is_off = field in low and field not in high and str(low[field]) in ((value,) if value else ("0", "0.0"))
        if is_off and (
            useless := [name for name in silenced if name in high and str(high[name]) != str(_default(record, name))]
        ):
            flag, names = name_of[path + field], " and ".join(name_of[path + name] for name in useless)
            others = [str(one) for one in get_args(record.model_fields[field].annotation) if str(one) != str(low[field])]
            choice = f" ({' or '.join(others)})" if others else ""
            yield (
                f"{where} has {field} {low[field]}, so {names} would have no effect; add {flag} with another value{choice}, "
                f"or leave out {names}"
            )
    own = {name: name_of.get(path + name, name) for name in record.model_fields}
    yield from _in_place_of_list(record, low, high, where, own)
    for name, above in high.items():
        section = section_of(record, name) if name in record.model_fields else None
        if section is not None and isinstance(above, Mapping) and isinstance(low.get(name), Mapping):
            yield from _off_below(section, low[name], above, where, name_of=name_of, path=f"{path}{name}.")


def _in_place_of_list(
    record: type[Settings], low: Mapping[str, Any], high: Mapping[str, Any], where: str, name_of: Mapping[str, str]
) -> Iterator[str]:
    """A message if the lower layer has a list (of subjects) in place of what the upper one sets, and keeps it."""
    for taker, displaced in record.displaces.items():
        for field in displaced:
            given = [name_of[name] for name in record.replaces.get(field, ()) if name in high]
            if low.get(field) and given and not high.keys() & {taker, field}:
                flags = " and ".join(given)
                yield (
                    f"{where} has {field}, so {flags} would have no effect; give {name_of[taker]} as well, which replaces the "
                    f"{field}, or leave out {flags}"
                )


def _default(record: type[Settings], name: str) -> Any:
    return record.model_fields[name].get_default(call_default_factory=True)


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
