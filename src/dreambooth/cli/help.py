"""The help of a verb, written by cyclopts from the settings' names, sentences, types and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from cyclopts import App, Group, Parameter

from dreambooth.cli.help_groups import LAST, SHORT
from dreambooth.cli.help_layout import help_layout
from dreambooth.cli.verbs import Verb
from dreambooth.config import Settings, section_of
from dreambooth.data.settings import NamedSubject
from dreambooth.schema.leaves import Leaf
from dreambooth.schema.presets import preset_names

__all__ = ["show_help"]


_SCREENFUL = 40  # flags; below, the sections alone keep a help readable


def show_help(verb: Verb, flags: Sequence[Leaf], *, is_short: bool) -> None:
    """Print the help of a verb with these flags, all of them or (`is_short`) the most important ones, if it has many."""
    names = SHORT.get(verb.name, ()) if is_short else ()
    if names:
        flags = sorted((leaf for leaf in flags if leaf.name in names), key=lambda leaf: names.index(leaf.name))
    _app(verb, flags, _headings(verb, flags, is_short=bool(names)), is_short=bool(names)).help_print([])


def _headings(verb: Verb, flags: Sequence[Leaf], *, is_short: bool) -> dict[str, Group]:
    """Name of a flag to its group, in the order of the groups."""
    last = {name: heading for heading, names in LAST.items() for name in names} if len(flags) > _SCREENFUL else {}
    common = "Most important options" if is_short else ""
    headings = {leaf.name: common or last.get(leaf.name) or leaf.section.rstrip(".") or "Settings" for leaf in flags}
    headings |= {name: "When the command ends" if name == "notify" else "Where settings come from" for name in verb.extra}
    ordered = [heading for heading in dict.fromkeys(headings.values()) if heading not in LAST]
    groups = {heading: Group.create_ordered(heading) for heading in (*ordered, *LAST)}
    return {name: groups[heading] for name, heading in headings.items()}


def _app(verb: Verb, flags: Sequence[Leaf], groups: Mapping[str, Group], *, is_short: bool) -> App:
    """Build the cyclopts app whose help is shown; it parses nothing."""

    def collect(**values: Any) -> None:
        """Never called; only its signature is used."""

    extra = {name: sentence for name, sentence in verb.extra.items() if not is_short or name in SHORT[verb.name]}
    collect.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [_parameter(leaf, groups[leaf.name], verb) for leaf in sorted(flags, key=lambda leaf: leaf.name not in verb.positional)]
        + [_extra_parameter(name, sentence, groups[name]) for name, sentence in extra.items()]
    )
    ways = [f"{verb.command} {way}" for way in verb.usage]
    examples = ["Example:" if len(verb.examples) == 1 else "Examples:", *(f"  {line}" for line in verb.examples)]
    more = [f"\n`{verb.command} --help` shows all options."] if is_short else []
    app = App(
        name=verb.command,
        help=verb.sentence,
        usage="Usage: " + "\n       ".join(ways),
        help_epilogue="\n".join([*examples, *more]),
        help_format="plaintext",
        help_formatter=help_layout(),
        help_flags=(),
        version_flags=(),
    )
    app.default(collect)
    return app


def _replaced(record: type[Settings]) -> dict[str, str]:
    """The names of fields that another field replaces, to the flag of that field."""
    sections = (section for name in record.model_fields if (section := section_of(record, name)) is not None)
    own = {other: f"--{name.replace('_', '-')}" for name, others in record.replaces.items() for other in others}
    return own | {name: flag for section in sections for name, flag in _replaced(section).items()}


def _parameter(leaf: Leaf, group: Group, verb: Verb) -> inspect.Parameter:
    instead = _replaced(verb.record()).get(leaf.name) if leaf.is_required else None
    details = Parameter(
        help=leaf.sentence if instead is None else f"{leaf.sentence} [required without {instead}]",
        group=group,
        negative=None if leaf.is_switch else (),
        show_default=_shown,
        required=leaf.is_required and instead is None,
    )
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if leaf.name in verb.positional else inspect.Parameter.KEYWORD_ONLY
    default = None if leaf.is_required else leaf.default
    is_file = leaf.is_list and get_args(leaf.annotation)[0] is NamedSubject
    annotation = Path if is_file else leaf.annotation
    return inspect.Parameter(leaf.name, kind, annotation=Annotated[annotation, details], default=default)


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
