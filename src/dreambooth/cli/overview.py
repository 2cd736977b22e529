"""What `dreambooth` says when no verb is given: the verbs, each in its sentence. Loads no settings."""

from __future__ import annotations

from cyclopts import App, Group

from dreambooth.cli.verbs import Program
from dreambooth.errors import SettingsError

__all__ = ["show_overview", "unknown_verb"]


def show_overview(program: Program) -> None:
    """Print the verbs."""
    app = App(
        name=program.name,
        help=program.sentence,
        usage=f"Usage: {program.name} VERB ...",
        help_epilogue=f"{program.name} VERB --help shows a verb's options; {program.name} --version the version.",
        help_format="plaintext",
        help_flags=(),
        version_flags=(),
        group_commands=Group("Verbs"),
    )
    for place, verb in enumerate(program.verbs.values()):
        app.command(App(name=verb.name, help=verb.sentence, help_flags=(), version_flags=(), sort_key=place))
    app.help_print([])


def unknown_verb(program: Program, word: str) -> SettingsError:
    """The error for a first word that is no verb."""
    from dreambooth.config import nearest

    near = nearest(word, program.verbs)
    known = f"the verbs are {', '.join(program.verbs)}"
    return SettingsError(
        f"unknown verb {word!r}: {known}" + (f"; did you mean {near!r}?" if near is not None else ""),
        hint=f"See `{program.name} --help`.",
    )
