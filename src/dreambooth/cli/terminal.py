"""Starting and ending a command: a quiet process, errors as text, exit codes.

Exit codes: 0 success, 1 error in files or in training, 2 error on the command line or in settings, 129, 130 and 143
stopped by SIGHUP, Ctrl-C and SIGTERM. With DREAMBOOTH_DEBUG=1 an error ends in a traceback instead.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable

from dreambooth.errors import DreamboothError, Interrupted, SettingsError
from dreambooth.files import is_no_room
from dreambooth.runtime.interrupts import Interrupts

__all__ = ["ENVIRONMENT", "arguments_in_utf8", "hush_libraries", "run_command", "set_environment"]

ENVIRONMENT = {
    # Silence the banners, progress bars and advice of libraries.
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYDANTIC_DISABLE_PLUGINS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    # CPU threads of torch wait for each other by spinning, by default for so long that on a busy machine two threads are far
    # slower than one. With this limit they go to sleep; on an idle machine it costs nothing.
    "GOMP_SPINCOUNT": "100000",
}
"""Environment variables that a command sets before it loads a library, unless the user has set them."""

_MAKE_ROOM = (
    "Free some disk space, then run the same command again. To resume a training run:\n  dreambooth train --resume FOLDER"
)


def run_command(work: Callable[[], object]) -> int:
    """Run a command and show its error, if any. Returns the exit code."""
    set_environment()
    hush_libraries()
    _tolerate_odd_letters()
    try:
        with Interrupts(lambda: "Stopped."):
            work()
        if sys.stdout is not None:  # None when the process has no stdout
            sys.stdout.flush()
    except DreamboothError as error:
        if os.environ.get("DREAMBOOTH_DEBUG") == "1":
            raise
        count = len(error.problems)
        _show("error: " if count == 1 else f"error: {count} problems\n", error.text, "red")
        return 2 if isinstance(error, SettingsError) else 1
    except Interrupted as stop:
        if os.environ.get("RANK", "0") == "0":  # only the first of several processes prints
            _show("", stop.text, "yellow")
        return stop.exit_code
    except KeyboardInterrupt:
        _show("", "Stopped.", "yellow")
        return 130
    except BrokenPipeError:  # the reader closed the pipe; drop what is still buffered
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # a full disk, a read-only folder, a file in place of a folder
        if os.environ.get("DREAMBOOTH_DEBUG") == "1":
            raise
        place = f"{error.filename}: " if error.filename is not None else ""
        what = error.strerror or str(error)
        text = f"{place}cannot write the file ({what})\n{_MAKE_ROOM}" if is_no_room(error) else f"{place}{what}"
        _show("error: ", text, "red")
        return 1
    return 0


def set_environment() -> None:
    """Set the variables of ENVIRONMENT that are not set; call it before a library is loaded."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def arguments_in_utf8() -> list[str]:
    """The arguments of this process. Where names and arguments are read as ASCII, the process starts again in UTF-8 first.

    In ASCII no file can get a name in another alphabet, and text arrives as single bytes. Only the locale C is concerned, with
    Python's own remedies turned off.
    """
    if sys.getfilesystemencoding() == "ascii" and os.environ.get("PYTHONUTF8") != "1":
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONUTF8": "1"})
    return sys.argv[1:]


def _tolerate_odd_letters() -> None:
    """Letters that the console's encoding lacks, and bytes of names that are not UTF-8, are shown as question marks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def hush_libraries() -> None:
    """Hide warnings of libraries, unless Python's -W option is used."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _show(prefix: str, text: str, color: str) -> None:
    """Print a message whose prefix alone is colored."""
    from rich.console import Console
    from rich.text import Text

    from dreambooth.display_wrapping import wrapped
    from dreambooth.reading import without_controls

    console = Console(stderr=True)
    start = 0 if prefix.endswith("\n") else len(prefix)
    message = Text.assemble(
        (prefix, f"bold {color}"), wrapped(without_controls(text), console.width if console.is_terminal else None, start=start)
    )
    console.print(message, highlight=False, soft_wrap=True)
