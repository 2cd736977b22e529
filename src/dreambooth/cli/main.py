"""The command `dreambooth`: find the verb, read its settings, run its recipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dreambooth import __version__
from dreambooth.cli.terminal import arguments_in_utf8, run_command
from dreambooth.cli.verbs import DREAMBOOTH, Program, Verb

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None, program: Program = DREAMBOOTH) -> int:
    """Run one verb of a program with `arguments` (default: sys.argv). Returns the exit code."""
    given = arguments_in_utf8() if arguments is None else list(arguments)
    return run_command(lambda: _run(program, given))


def _run(program: Program, arguments: list[str]) -> None:
    verb = program.verbs.get(arguments[0]) if arguments else None
    if verb is not None:
        _run_verb(verb, arguments[1:])
        return
    if arguments and arguments[0] in program.below:
        _run(program.below[arguments[0]], arguments[1:])
        return
    from dreambooth.cli.overview import show_overview, unknown_verb

    if not arguments or arguments[0] in ("--help", "-h"):
        show_overview(program)
    elif arguments[0] == "--version":
        sys.stdout.write(f"{__version__}\n")
    else:
        raise unknown_verb(program, arguments[0])


def _run_verb(verb: Verb, arguments: list[str]) -> None:
    from dreambooth.cli.flags import read_arguments
    from dreambooth.cli.layers import changes_to_run, settings_from

    record = verb.record()
    given = read_arguments(verb, record, arguments)
    if given.is_answered:
        return
    if (run := given.extra.get("resume")) is not None:
        changes = changes_to_run(verb, record, given)
        _call("dreambooth.recipes.train:resume", Path(run), changes)
    else:
        _call(verb.recipe, settings_from(verb, record, given))


def _call(place: str, *arguments: Any) -> None:
    """Import the recipe (and with it torch) and run it."""
    import importlib

    from dreambooth.display_console import ConsoleDisplay

    module, _, function = place.partition(":")
    getattr(importlib.import_module(module), function)(*arguments, ConsoleDisplay())
