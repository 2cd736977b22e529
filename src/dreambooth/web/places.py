"""Texts and commands as a page shows them: without the place of things on this machine, and without tokens.

A page says of a path what a person who works here would type: relative to the current folder or the folder of projects, or from
the home folder on.
"""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from dreambooth.display import quoted

__all__ = ["shown_path", "shown_text", "typed_line"]

_INSTALLED = Path(__file__).parents[2]
_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")
_TOKEN = re.compile(r"\bhf_\w{16,}")
_HIDDEN = "[token]"


def shown_text(text: str, *, projects: Path) -> str:
    """A text that a command or an error says, with paths made short; `projects` is the folder of all projects."""
    for place, short in _short_places(projects):
        text = _at_start(place).sub(lambda _, short=short: short, text)  # type: ignore[misc]
    for name in _SECRETS:
        if len(secret := os.environ.get(name, "")) > 7:
            text = text.replace(secret, _HIDDEN)
    return _TOKEN.sub(_HIDDEN, text)


def shown_path(path: Path) -> str:
    """A path relative to the current folder, or from the home folder on, where it is below one of them."""
    text = str(path)
    if (relative := text.removeprefix(f"{_here()}/")) != text:
        return relative
    rest = _below_home(text)
    return text if rest is None else f"~/{rest}"


def typed_line(words: Sequence[object]) -> str:
    """A command as a person would type it in a shell."""
    return " ".join(_typed(str(word)) for word in words)


def _typed(word: str) -> str:
    flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    relative = value.removeprefix(f"{_here()}/")
    rest = _below_home(value) if relative == value else None
    if rest is None:
        return quoted(f"{flag}{equals}{relative}")
    # A shell expands ~ only at the beginning of a word, and outside of quotes.
    return f"{flag}{' ' if flag else ''}~/{quoted(rest)}"


def _below_home(text: str) -> str | None:
    """The rest of a path behind the home folder; None for other texts."""
    home = _home()
    is_below = os.name == "posix" and home != "" and text.startswith(f"{home}/") and len(text) > len(home) + 1
    return text[len(home) + 1 :] if is_below else None


def _short_places(projects: Path) -> Iterator[tuple[str, str]]:
    """Folders with what stands for them. That of the projects is the last: what is below the current or the home folder can
    then be typed as it is shown.
    """
    places = {str(_INSTALLED): "", sysconfig.get_path("purelib"): "", _here(): "", _home(): f"~{os.sep}", str(projects): ""}
    for place, short in places.items():
        if len(place) > 1:
            yield f"{place}{os.sep}", short


def _here() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return "/"


def _home() -> str:
    try:
        home = str(Path.home())
    except RuntimeError:
        return ""
    return home if len(home) > 1 else ""


@cache
def _at_start(place: str) -> re.Pattern[str]:
    """A folder where a path begins, and not inside a longer one."""
    return re.compile(rf"(?<![\w./\\~-]){re.escape(place)}")
