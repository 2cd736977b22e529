"""The command `dreambooth`: find the verb, read its settings, run its recipe, show what went wrong.

Exit codes: 0 done, 1 a mistake in files or in training, 2 a mistake on the command line or in settings, 130 and 143 stopped
by Ctrl-C and SIGTERM. With DREAMBOOTH_DEBUG=1 a mistake ends in a traceback instead.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dreambooth import __version__
from dreambooth.cli.verbs import PROGRAMS, Program, Verb
from dreambooth.errors import DreamboothError, Interrupted, SettingsError

__all__ = ["main"]

# Libraries announce themselves, their progress and advice on every start: none of it is for the person at this command.
_QUIET = {
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYDANTIC_DISABLE_PLUGINS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}

# Threads of torch on the CPU wait for each other by spinning, by default for so long that on a machine that does anything else
# two of them are far slower than one; with this limit they go to sleep, and lose nothing when the machine is idle.
_PATIENCE = {"GOMP_SPINCOUNT": "100000"}


def main(arguments: Sequence[str] | None = None, program: str = "dreambooth") -> int:
    """Run one verb of a program with the arguments (those of the process when None). Returns the exit code."""
    for name, value in {**_QUIET, **_PATIENCE}.items():
        os.environ.setdefault(name, value)
    try:
        _run(PROGRAMS[program], list(sys.argv[1:] if arguments is None else arguments))
        if sys.stdout is not None:  # None when the command was started without one
            sys.stdout.flush()
    except DreamboothError as error:
        if os.environ.get("DREAMBOOTH_DEBUG") == "1":
            raise
        count = len(error.problems)
        _show("error: " if count == 1 else f"error: {count} problems\n", error.text, "red")
        return 2 if isinstance(error, SettingsError) else 1
    except Interrupted as stop:
        if os.environ.get("RANK", "0") == "0":  # beside others of one run, the first one speaks
            _show("", stop.text, "yellow")
        return stop.exit_code
    except KeyboardInterrupt:
        _show("", "Stopped.", "yellow")
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough; what is still buffered goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # a full disk, a folder that may not be written, a file where a folder should be
        if os.environ.get("DREAMBOOTH_DEBUG") == "1":
            raise
        place = f"{error.filename}: " if error.filename is not None else ""
        _show("error: ", f"{place}{error.strerror or error}", "red")
        return 1
    return 0


def _run(program: Program, arguments: list[str]) -> None:
    verb = program.verbs.get(arguments[0]) if arguments else None
    if verb is not None:
        _run_verb(verb, arguments[1:])
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
    from dreambooth.recipes import settings as records

    record = getattr(records, verb.settings)
    given = read_arguments(verb, record, arguments)
    if given.is_answered:
        return
    if (run := given.extra.get("resume")) is not None:
        changes = changes_to_run(verb, record, given)
        _call("dreambooth.recipes.train:resume", Path(run), changes)
    else:
        _call(verb.recipe, settings_from(verb, record, given))


def _call(place: str, *arguments: Any) -> None:
    """Load a recipe, and only now torch, and run it."""
    import importlib
    import warnings

    from dreambooth.recipes.display import Display

    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    module, _, function = place.partition(":")
    getattr(importlib.import_module(module), function)(*arguments, Display())


def _show(prefix: str, text: str, colour: str) -> None:
    from rich.console import Console
    from rich.text import Text

    message = Text.assemble((prefix, f"bold {colour}"), (text, colour))
    Console(stderr=True).print(message, highlight=False, soft_wrap=True)
