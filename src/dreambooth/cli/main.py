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
    from dreambooth.cli.notices import check_target

    record = verb.record()
    given = read_arguments(verb, record, arguments)
    if given.is_answered:
        return
    if (target := given.extra.get("notify")) is not None:
        check_target(target)
    if (run := given.extra.get("resume")) is not None:
        changes = changes_to_run(verb, record, given)
        _call(verb, target, "dreambooth.recipes.train:resume", Path(run), changes)
    else:
        settings = settings_from(verb, record, given)
        _call(verb, target, verb.recipe, settings)


def _call(verb: Verb, target: str | None, place: str, *arguments: Any) -> None:
    """Import the recipe (and with it torch) and run it; `target` is told how it ended."""
    import importlib

    from dreambooth.cli.notices import with_notice
    from dreambooth.display_console import ConsoleDisplay

    module, _, function = place.partition(":")
    display = ConsoleDisplay()

    def work() -> Any:
        return getattr(importlib.import_module(module), function)(*arguments, display)

    with_notice(target, verb.command, _run_of(arguments[0]), work, display)


def _run_of(first: Any) -> str | None:
    """The folder that a command writes to: the run that is resumed, or what its settings say."""
    folder = first if isinstance(first, Path) else getattr(first, "output", None)
    folder = getattr(folder, "output", folder)
    return str(folder) if isinstance(folder, Path) else None
