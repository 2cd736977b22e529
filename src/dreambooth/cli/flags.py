"""Settings records to flags: every leaf of the settings tree is a flag of the same name.

Values stay text until pydantic validates them, so that flags and files follow the same rules and all mistakes are reported at
once, in the same words.
"""

from __future__ import annotations

from collections.abc import Sequence

from dreambooth.cli.arguments import Given, read_words
from dreambooth.cli.verbs import Verb
from dreambooth.config import Settings
from dreambooth.schema.leaves import leaves

__all__ = ["Given", "read_arguments"]

_HELP = frozenset({"--help", "-h"})


def read_arguments(verb: Verb, settings: type[Settings], arguments: Sequence[str]) -> Given:
    """Parse the arguments, or show the help: `--help` of all flags, `-h` of the most important ones. Does not validate values.

    Mistakes raise nothing: they become `problems`, reported together with all others.
    """
    flags = [leaf for leaf in leaves(settings) if leaf.name not in verb.without]
    if not _HELP.isdisjoint(arguments):
        from dreambooth.cli.help import show_help  # loads cyclopts and rich, which parsing does not need

        show_help(verb, flags, is_short="--help" not in arguments)
        return Given({}, {}, is_answered=True)
    return read_words(verb, flags, arguments)
