"""Tells a webhook or a program how a command ended, when `--notify` names one.

Nothing that goes wrong here changes the result of the command: it is only reported. The address of a webhook is a secret, so
no message holds more of it than its host, and it is not stored in a run.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from dreambooth.display import Display
from dreambooth.errors import DreamboothError, Interrupted, SettingsError
from dreambooth.trainer.problems import HINT_BELOW

__all__ = ["check_target", "with_notice"]

_SECONDS = {"webhook": 15, "program": 60}
_LONGEST = 2000  # letters, the most that Discord takes


def check_target(target: str) -> None:
    """Raise SettingsError unless it is the address of a webhook, or a program that exists, with its arguments."""
    if _is_address(target):
        if not urlsplit(target).hostname:
            raise SettingsError("--notify: the address has no host; give an address such as https://example.org/hook")
        return
    words = _words(target)
    if not words or shutil.which(words[0]) is None:
        raise SettingsError(
            f"--notify: no program {words[0] if words else ''!r} was found; give the address of a webhook, which begins with "
            "https://, or a program with its arguments, in quotes"
        )


def with_notice(target: str | None, command: str, run: str | None, work: Callable[[], Any], display: Display) -> Any:
    """Do the work and tell the target how it ended; exceptions pass through afterwards. None tells nobody.

    Only the main process of several tells. A result whose `model` is None was stopped by its time limit.
    """
    if target is None or os.environ.get("RANK", "0") != "0":
        return work()
    start = time.monotonic()

    def tell(event: str, reason: str) -> None:
        seconds = round(time.monotonic() - start, 1)
        _tell(target, _notice(event, reason, command=command, run=run, seconds=seconds), display)

    try:
        result = work()
    except BaseException as error:
        is_stop = isinstance(error, Interrupted | KeyboardInterrupt)
        tell("stopped" if is_stop else "failed", _reason(error))
        raise
    is_whole = getattr(result, "model", "") is not None
    tell("finished" if is_whole else "stopped", "" if is_whole else "the time limit was reached")
    return result


def _notice(event: str, reason: str, *, command: str, run: str | None, seconds: float) -> dict[str, Any]:
    """What is told; `text` and `content` are what chat programs show."""
    text = (f"{command}{'' if run is None else f' ({run})'} {event}" + (f": {reason}" if reason else ""))[:_LONGEST]
    return {
        **{"event": event, "command": command, "run": run, "reason": reason, "seconds": seconds},
        **{"host": socket.gethostname(), "text": text, "content": text},
    }


def _reason(error: BaseException) -> str:
    if isinstance(error, DreamboothError) and len(error.problems) > 1:  # the hints below them are for the terminal
        problems = [f"- {problem.partition(HINT_BELOW)[0]}" for problem in error.problems]
        return "\n".join([f"{len(problems)} problems", *problems])[:_LONGEST]
    if isinstance(error, DreamboothError | Interrupted):
        return error.text[:_LONGEST]
    return (f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)[:_LONGEST]


def _tell(target: str, notice: dict[str, Any], display: Display) -> None:
    try:
        if _is_address(target):
            _post(target, notice)
        else:
            _start(target, notice)
    except Exception as error:  # whatever it is: the command itself is done
        to = urlsplit(target).hostname if _is_address(target) else _words(target)[0]
        if isinstance(error, subprocess.CalledProcessError):
            display.warn(
                f"--notify: {to} was told that the command {notice['event']}, and ended with exit code {error.returncode}"
            )
            return
        display.warn(f"--notify: {to} was not told that the command {notice['event']}: {_cause(error)}")


def _cause(error: Exception) -> str:
    """Why it was not told, without the address or the arguments, which errors of libraries quote."""
    if isinstance(error, urllib.error.HTTPError):
        return f"it answered {error.code}"
    if isinstance(error, TimeoutError | subprocess.TimeoutExpired):
        return "it took too long"
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or type(reason).__name__


def _post(address: str, notice: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/json", "User-Agent": "dreambooth"}
    request = urllib.request.Request(address, json.dumps(notice).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=_SECONDS["webhook"]):
        pass


def _start(command: str, notice: dict[str, Any]) -> None:
    """Start the program without a shell; the notice is its input, and its values are in the environment."""
    values = {f"DREAMBOOTH_{name.upper()}": "" if value is None else str(value) for name, value in notice.items()}
    subprocess.run(
        _words(command),
        input=json.dumps(notice).encode(),
        env={**os.environ, **values},
        timeout=_SECONDS["program"],
        check=True,
    )


def _is_address(target: str) -> bool:
    return target.lower().startswith(("http://", "https://"))


def _words(command: str) -> list[str]:
    """The program and its arguments. Raises SettingsError for an open quote."""
    try:
        return shlex.split(command, posix=os.name == "posix")
    except ValueError as error:
        raise SettingsError(f"--notify: {command!r} cannot be split into words: a quote is not closed") from error
