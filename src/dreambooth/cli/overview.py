"""The help without a verb: a list of verbs. Loads no settings."""

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
        help_epilogue=f"{program.name} VERB --help shows the options of a verb; {program.name} --version shows the version.",
        help_format="plaintext",
        help_flags=(),
        version_flags=(),
        group_commands=Group("Verbs"),
    )
    sentences = {name: verb.sentence for name, verb in program.verbs.items()}
    sentences.update({name: below.sentence for name, below in program.below.items()})
    for place, (name, sentence) in enumerate(sentences.items()):
        app.command(App(name=name, help=sentence, help_flags=(), version_flags=(), sort_key=place))
    app.help_print([])


def unknown_verb(program: Program, word: str) -> SettingsError:
    """Return the error for an unknown verb."""
    from dreambooth.cli.verbs import VERBS
    from dreambooth.config import nearest

    if word in VERBS and program.verbs is not VERBS:
        return SettingsError(f"{word!r} is no verb of {program.name}", hint=f"Type: dreambooth {word} ...")
    known = [*program.verbs, *program.below]
    near = nearest(word, known)
    return SettingsError(
        f"unknown verb {word!r}: the verbs are {', '.join(known)}" + (f"; did you mean {near!r}?" if near is not None else ""),
        hint=f"See `{program.name} --help`.",
    )
