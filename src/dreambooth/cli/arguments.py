"""Checks the arguments before they are parsed, so that a wrong one does not hide the right ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dreambooth.display import quoted
from dreambooth.schema.leaves import Leaf

__all__ = ["Checked", "check_arguments", "plain_name"]

_TRUTHS = frozenset({"true", "false", "yes", "no", "y", "n", "t", "f", "1", "0", "on", "off"})
_NUMBER = re.compile(r"-\.?\d")
_SHOWN = 3  # values of a flag that takes one


@dataclass
class Checked:
    """The arguments that can be parsed, and what is wrong with the others."""

    kept: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    """Names of flags that were given, but not as they should be."""


def plain_name(argument: str) -> str:
    """The name in a flag: `class-word` in `--class_word=dog`."""
    return argument.partition("=")[0].lstrip("-").replace("_", "-")


def check_arguments(flags: Sequence[Leaf], extra: Sequence[str], arguments: Sequence[str], *, has_positional: bool) -> Checked:
    """Sort out flags without a value, flags that were given twice, and values beyond the one that a flag takes.

    `extra` names further flags that take one value. With positional arguments, values beyond the first are those.
    """
    kinds = {leaf.flag.lstrip("-"): "list" if leaf.is_list else "switch" if leaf.is_switch else "value" for leaf in flags}
    kinds |= dict.fromkeys(extra, "value")
    kinds |= {f"no-{leaf.flag.lstrip('-')}": "no" for leaf in flags if leaf.is_switch}
    checked, seen = Checked(), set[str]()
    for group in _groups(arguments):
        name = plain_name(group[0]) if _is_flag(group[0]) else ""
        kind = kinds.get(name, "")
        if kind in ("switch", "no"):
            _check_switch(name, kind, group, checked)
        elif kind:
            _check_values(name, kind, group, checked, is_again=name in seen, has_positional=has_positional)
        else:
            checked.kept += group
        seen.add(name)
    return checked


def _groups(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Each flag together with the arguments up to the next flag."""
    group: list[str] = []
    for argument in arguments:
        if _is_flag(argument) and group:
            yield group
            group = []
        group.append(argument)
    if group:
        yield group


def _is_flag(argument: str) -> bool:
    return argument.startswith("-") and len(argument) > 1 and _NUMBER.match(argument) is None


def _check_switch(name: str, kind: str, group: Sequence[str], checked: Checked) -> None:
    flag, has_value, value = group[0].partition("=")
    if not has_value or (kind == "switch" and value.lower() in _TRUTHS):
        checked.kept += group
        return
    checked.problems.append(f'Invalid value for {flag}: unable to convert "{value}" into bool.')
    checked.broken.add(name)
    checked.kept += group[1:]


def _check_values(
    name: str, kind: str, group: Sequence[str], checked: Checked, *, is_again: bool, has_positional: bool
) -> None:
    first, *values = group
    flag, has_value, value = first.partition("=")
    given = [value, *values] if has_value else values
    beyond = given[1:] if kind == "value" else []
    if not given:
        checked.problems.append(f"{flag} needs a value; if the value starts with a dash, write {flag}=VALUE")
        checked.broken.add(name)
    elif kind == "value" and is_again:
        checked.problems.append(f"{flag} was given more than once")
        checked.kept += beyond if has_positional else []
    elif beyond and not has_positional:
        checked.problems.append(_too_many(flag, given))
        checked.broken.add(name)
        checked.kept += [first, given[0]] if not has_value else [first]
    else:
        checked.kept += group


def _too_many(flag: str, values: Sequence[str]) -> str:
    """Several paths come from a shell's `*`, several words from a missing pair of quotes."""
    shown = ", ".join(repr(value) for value in values[:_SHOWN]) + (", ..." if len(values) > _SHOWN else "")
    message = f"{flag} takes one value, but {len(values)} were given ({shown})"
    parents = {Path(value).parent for value in values}
    if any(Path(value).exists() for value in values[1:]):
        if len(parents) > 1:
            return f"{message}; give one of them"
        return f"{message}: the shell replaced a pattern such as * by names; write {flag} {quoted(parents.pop())}"
    return f"{message}; if they are one text, write {flag} {quoted(' '.join(values))}"
