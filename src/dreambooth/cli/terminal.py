"""How a command of this package starts and ends: a quiet process, mistakes as texts, exit codes.

Exit codes: 0 done, 1 a mistake in files or in training, 2 a mistake on the command line or in settings, 130 and 143 stopped
by Ctrl-C and SIGTERM. With DREAMBOOTH_DEBUG=1 a mistake ends in a traceback instead.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable

from dreambooth.errors import DreamboothError, Interrupted, SettingsError
from dreambooth.files import is_no_room

__all__ = ["ENVIRONMENT", "hush_libraries", "run_command"]

ENVIRONMENT = {
    # Libraries announce themselves, their progress and advice on every start: none of it is for the person at this command.
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYDANTIC_DISABLE_PLUGINS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    # Threads of torch on the CPU wait for each other by spinning, by default for so long that on a machine that does anything
    # else two of them are far slower than one; with this limit they go to sleep, and lose nothing when the machine is idle.
    "GOMP_SPINCOUNT": "100000",
}
"""What a command sets, unless the person has, before a library is loaded."""

_MAKE_ROOM = (
    "Make room on that disk, then type the same command again. A training run that has begun goes on with:\n"
    "  dreambooth train --resume FOLDER"
)


def run_command(work: Callable[[], None]) -> int:
    """Do the work of a command and show what went wrong with it; the exit code."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        work()
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
        what = error.strerror or str(error)
        _show("error: ", f"{place}no room to write it ({what})\n{_MAKE_ROOM}" if is_no_room(error) else f"{place}{what}", "red")
        return 1
    return 0


def hush_libraries() -> None:
    """Keep the warnings of libraries from the person, unless Python was told otherwise."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _show(prefix: str, text: str, colour: str) -> None:
    from rich.console import Console
    from rich.text import Text

    message = Text.assemble((prefix, f"bold {colour}"), (text, colour))
    Console(stderr=True).print(message, highlight=False, soft_wrap=True)
