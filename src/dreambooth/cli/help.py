"""The help of a verb, written by cyclopts from the settings' names, sentences, types and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import App, Group, Parameter

from dreambooth.cli.help_layout import help_layout
from dreambooth.cli.verbs import Verb
from dreambooth.schema.leaves import Leaf
from dreambooth.schema.presets import preset_names

__all__ = ["show_help"]


def show_help(verb: Verb, flags: Sequence[Leaf]) -> None:
    """Print the help of a verb with these flags."""
    _app(verb, flags).help_print([])


def _app(verb: Verb, flags: Sequence[Leaf]) -> App:
    """Build the cyclopts app whose help is shown; it parses nothing."""

    def collect(**values: Any) -> None:
        """Never called; only its signature is used."""

    sections = [*dict.fromkeys(leaf.section for leaf in flags)]
    groups = {section: Group.create_ordered(section.rstrip(".") or "Settings") for section in sections}
    origin = Group.create_ordered("Where settings come from")
    collect.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [_parameter(leaf, groups[leaf.section], verb) for leaf in flags]
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
        help_formatter=help_layout(),
        help_flags=(),
        version_flags=(),
    )
    app.default(collect)
    return app


def _parameter(leaf: Leaf, group: Group, verb: Verb) -> inspect.Parameter:
    details = Parameter(
        help=leaf.sentence,
        group=group,
        negative=None if leaf.is_switch else (),
        show_default=_shown,
        required=leaf.is_required,
    )
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if leaf.name in verb.positional else inspect.Parameter.KEYWORD_ONLY
    default = None if leaf.is_required else leaf.default
    return inspect.Parameter(leaf.name, kind, annotation=Annotated[leaf.annotation, details], default=default)


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
