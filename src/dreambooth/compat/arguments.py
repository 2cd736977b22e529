"""Parser for the command lines of the original programs. Values stay text; the translation checks them."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from dreambooth.config import nearest
from dreambooth.errors import SettingsError

__all__ = ["Flag", "Given", "read_arguments", "unknown_option", "unknown_options"]


_OVERRIDE = re.compile(r"[\w.\-]+=")  # KEY=VALUE, the original's way to set a key of its YAML files


@dataclass(frozen=True)
class Flag:
    """An option of an original program. `bare` is its value when the option is given without one, like a switch."""

    names: tuple[str, ...]
    sentence: str
    bare: str | None = None
    takes_value: bool = True
    takes_many: bool = False
    group: str = ""
    """Heading of its group in the help."""

    @property
    def name(self) -> str:
        """The long name without its dashes."""
        return next(name for name in self.names if name.startswith("--")).removeprefix("--")


@dataclass(frozen=True)
class Given:
    """A parsed command line: flag name to its text (texts, for a flag that takes many), and all other arguments."""

    values: Mapping[str, str]
    lists: Mapping[str, tuple[str, ...]]
    rest: tuple[str, ...]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise an error instead of printing the message and exiting, as argparse does."""
        raise SettingsError(message, hint=f"See `{self.prog} --help`.")


def read_arguments(command: str, sentence: str, flags: Sequence[Flag], arguments: Sequence[str]) -> Given:
    """Parse arguments, or show the help and exit. Arguments that are no flags stay in `rest`, in order.

    Raises SettingsError when a flag has no value or is given twice.
    """
    parser = _Parser(prog=command, description=sentence, allow_abbrev=False)
    groups = {heading: parser.add_argument_group(heading) for heading in dict.fromkeys(flag.group for flag in flags) if heading}
    for flag in flags:
        kwargs: dict[str, object] = {"dest": flag.name, "help": flag.sentence, "default": None}
        if flag.takes_many:
            kwargs |= {"nargs": "*", "action": "extend"}
        elif not flag.takes_value:
            kwargs |= {"action": "append_const", "const": flag.bare}
        else:
            kwargs |= {"action": "append", **({} if flag.bare is None else {"nargs": "?", "const": flag.bare})}
            kwargs["metavar"] = flag.name.upper()
        groups.get(flag.group, parser).add_argument(*flag.names, **kwargs)  # type: ignore[arg-type]
    parsed, rest = parser.parse_known_args(_without_swallowing(flags, arguments))
    many = {flag.name for flag in flags if flag.takes_many}
    given = {name: values for name, values in vars(parsed).items() if values is not None}
    twice = [f"--{name} is given more than once" for name, values in given.items() if name not in many and len(values) > 1]
    if twice:
        raise SettingsError(twice, hint=f"See `{command} --help`.")
    return Given(
        values={name: values[0] for name, values in given.items() if name not in many},
        lists={name: tuple(values) for name, values in given.items() if name in many},
        rest=tuple(rest),
    )


def _without_swallowing(flags: Sequence[Flag], arguments: Sequence[str]) -> list[str]:
    """The arguments, in which a switch does not take a following KEY=VALUE for its value."""
    bare = {name: flag.bare for flag in flags if flag.bare is not None and flag.takes_value for name in flag.names}
    found = []
    for argument, after in itertools.pairwise([*arguments, ""]):
        is_alone = argument in bare and _OVERRIDE.match(after) is not None
        if is_alone and argument.startswith("--"):
            found.append(f"{argument}={bare[argument]}")
        else:
            found += [argument, *([str(bare[argument])] if is_alone else [])]
    return found


def unknown_option(option: str, flags: Sequence[Flag], *, more: Sequence[str] = ()) -> str:
    """The message for an argument that no flag takes, with the nearest name; `more` lists further long options."""
    name = option.partition("=")[0]
    if not name.startswith("-"):
        return f"unexpected argument {option!r}"
    spelled = {known.lstrip("-"): known for flag in flags for known in flag.names} | {known: f"--{known}" for known in more}
    near = nearest(name.lstrip("-"), spelled)
    return f"unknown option {name}" + (f"; did you mean {spelled[near]}?" if near is not None else "")


def unknown_options(rest: Sequence[str], flags: Sequence[Flag]) -> list[str]:
    """A message for each argument that no flag takes; the value after an unknown flag gets none."""
    pairs = itertools.pairwise(["", *rest])
    return [unknown_option(option, flags) for before, option in pairs if option.startswith("-") or not before.startswith("-")]
