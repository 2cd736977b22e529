"""Settings records to flags, and arguments to values; the only module that imports cyclopts.

Flags are flat: every leaf of the settings tree is a flag of the same name. cyclopts splits the arguments and writes the help;
values stay text until pydantic validates them, so that flags and files follow the same rules and all mistakes are reported
at once, in the same words.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.exceptions import MissingArgumentError, RepeatArgumentError

from dreambooth.cli.arguments import check_arguments, plain_name
from dreambooth.cli.synonyms import SYNONYMS
from dreambooth.cli.verbs import Verb
from dreambooth.config import Settings, nearest
from dreambooth.schema.leaves import Leaf, leaves
from dreambooth.schema.presets import preset_names

__all__ = ["Given", "read_arguments"]

_HELP = frozenset({"--help", "-h"})


@dataclass(frozen=True)
class Given:
    """The parsed command line."""

    values: Mapping[str, Any]
    """Dotted path to text, list of texts, or bool for a switch; only flags that were given."""
    extra: Mapping[str, str]
    """Flags of `Verb.extra` that were given."""
    problems: tuple[str, ...] = ()
    """Messages about arguments that this verb does not accept."""
    broken: frozenset[str] = frozenset()
    """Dotted paths of flags that `problems` are about: given in a wrong way, or meant by another name."""
    is_answered: bool = False
    """Whether help was requested and shown, so that nothing is left to do."""


def read_arguments(verb: Verb, settings: type[Settings], arguments: Sequence[str]) -> Given:
    """Parse the arguments, or show the help. Does not validate values.

    Unknown flags and missing values raise nothing: they become `problems`, reported together with all others.
    """
    flags = [leaf for leaf in leaves(settings) if leaf.name not in verb.without]
    if not _HELP.isdisjoint(arguments):
        _app(verb, flags, is_help=True).help_print([])
        return Given({}, {}, is_answered=True)
    paths = {leaf.name: leaf.path for leaf in flags}
    checked = check_arguments(flags, tuple(verb.extra), arguments, has_positional=bool(verb.positional))
    try:
        _, bound, unused, _ = _app(verb, flags, is_help=False).parse_known_args(checked.kept)
    except CycloptsError as error:
        return Given({}, {}, (*checked.problems, _problem(error)), frozenset(paths.values()))
    unknown, meant = _unknown(unused, _names(verb, flags), has_positional=bool(verb.positional))
    broken = {name.replace("-", "_") for name in (*checked.broken, *meant)}
    values = {paths[name]: value for name, value in bound.arguments.items() if name in paths}
    extra = {name: value for name, value in bound.arguments.items() if name in verb.extra}
    problems = (*checked.problems, *unknown)
    return Given(values, extra, problems, frozenset(path for name, path in paths.items() if name in broken))


def _app(verb: Verb, flags: Sequence[Leaf], *, is_help: bool) -> App:
    """Build the cyclopts app: with the settings' types for the help, with text for parsing."""

    def collect(**values: Any) -> None:
        """Never called; only its bound arguments are used."""

    sections = [*dict.fromkeys(leaf.section for leaf in flags)]
    groups = {section: Group.create_ordered(section.rstrip(".") or "Settings") for section in sections}
    origin = Group.create_ordered("Where settings come from")
    collect.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [_parameter(leaf, groups[leaf.section], verb, is_help=is_help) for leaf in flags]
        + [_extra_parameter(name, sentence, origin) for name, sentence in verb.extra.items()]
    )
    ways = [f"{verb.command} {way}" for way in verb.usage]
    app = App(
        name=verb.command,
        help=verb.sentence,
        usage="Usage: " + "\n       ".join(ways),
        help_epilogue="\n".join(
            ["Example:" if len(verb.examples) == 1 else "Examples:", *(f"  {line}" for line in verb.examples)]
        ),
        help_format="plaintext",
        help_formatter=_layout() if is_help else None,
        help_flags=(),
        version_flags=(),
    )
    app.default(collect)
    return app


def _layout() -> Any:
    from dreambooth.cli.help_layout import help_layout  # loads rich, which parsing does not need

    return help_layout()


def _parameter(leaf: Leaf, group: Group, verb: Verb, *, is_help: bool) -> inspect.Parameter:
    details = Parameter(
        help=leaf.sentence,
        group=group,
        negative=None if leaf.is_switch else (),
        consume_multiple=1 if leaf.is_list and not verb.positional else None,  # it would swallow positional arguments
        show_default=_shown,
        required=leaf.is_required and is_help,
    )
    annotation = leaf.annotation if is_help else _text_type(leaf)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if leaf.name in verb.positional else inspect.Parameter.KEYWORD_ONLY
    default = leaf.default if is_help and not leaf.is_required else None
    return inspect.Parameter(leaf.name, kind, annotation=Annotated[annotation, details], default=default)


def _text_type(leaf: Leaf) -> Any:
    if leaf.is_switch:
        return bool | None
    return list[str] | None if leaf.is_list else str | None


def _extra_parameter(name: str, sentence: str, group: Group) -> inspect.Parameter:
    details = Parameter(help=sentence.format(presets=", ".join(preset_names())), group=group)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[str | None, details], default=None)


def _shown(default: Any) -> str | None:
    """Format a default as the user would type it."""
    match default:
        case None | () | "":
            return None
        case bool():
            return "on" if default else "off"
        case tuple():
            return " ".join(f'"{value}"' for value in default)
        case _:
            return str(default)


def _names(verb: Verb, flags: Sequence[Leaf]) -> list[str]:
    names = [leaf.flag.lstrip("-") for leaf in flags]
    return [*names, *(f"no-{leaf.flag.lstrip('-')}" for leaf in flags if leaf.is_switch), *verb.extra]


def _unknown(unused: Sequence[str], names: Sequence[str], *, has_positional: bool) -> tuple[list[str], set[str]]:
    """A message for every unused argument, except the values after an unknown flag, and the names that were probably meant."""
    problems, meant, previous = list[str](), set[str](), ""
    for argument in unused:
        if argument.startswith("-"):
            proposal = _proposal(plain_name(argument), names)
            problems.append(f"unknown option {argument.partition('=')[0]}{proposal and f'; did you mean {proposal}?'}")
            meant.add(plain_name(proposal.partition(" ")[0]).removeprefix("no-"))
        elif not previous.startswith("-"):
            problems.append(f"unexpected argument {argument!r}")
        if has_positional or argument.startswith("-"):
            previous = argument
    return problems, meant


def _proposal(name: str, names: Sequence[str]) -> str:
    """What to type instead of an unknown flag: what other trainers call so, or the nearest name; empty if there is neither."""
    if (synonym := SYNONYMS.get(name)) is not None and plain_name(synonym.partition(" ")[0]) in names:
        return synonym
    near = nearest(name, names)
    return f"--{near}" if near is not None else ""


def _problem(error: CycloptsError) -> str:
    """Reword an error of cyclopts."""
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        flag = error.keyword or error.argument.name
        return f"{flag} needs a value; if the value starts with a dash, write {flag}=VALUE"
    if isinstance(error, RepeatArgumentError):
        return f"{error.token.keyword} was given more than once"
    error.verbose = False
    return str(error)
