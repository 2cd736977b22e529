"""What `dreambooth` says when no verb is given: the verbs, each in its sentence. Loads no settings."""

from __future__ import annotations

from cyclopts import App, Group

from dreambooth.cli.verbs import VERBS
from dreambooth.errors import SettingsError

__all__ = ["show_overview", "unknown_verb"]


def show_overview() -> None:
    """Print the verbs."""
    app = App(
        name="dreambooth",
        help="Teach Stable Diffusion one subject from a few photos, and keep the rest of the model as it was.",
        usage="Usage: dreambooth VERB ...",
        help_epilogue="dreambooth VERB --help shows a verb's options; dreambooth --version the version.",
        help_format="plaintext",
        help_flags=(),
        version_flags=(),
        group_commands=Group("Verbs"),
    )
    for place, verb in enumerate(VERBS.values()):
        app.command(App(name=verb.name, help=verb.sentence, help_flags=(), version_flags=(), sort_key=place))
    app.help_print([])


def unknown_verb(word: str) -> SettingsError:
    """The error for a first word that is no verb."""
    from dreambooth.config import nearest

    near = nearest(word, VERBS)
    known = f"the verbs are {', '.join(VERBS)}"
    return SettingsError(
        f"unknown verb {word!r}: {known}" + (f"; did you mean {near!r}?" if near is not None else ""),
        hint="See `dreambooth --help`.",
    )
