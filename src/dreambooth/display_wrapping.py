"""Line breaks for messages on a terminal: prose is wrapped between words; commands, paths and quoted texts stay whole."""

from __future__ import annotations

import re
import textwrap

__all__ = ["wrapped"]

_QUOTED = re.compile(r"(?<!\w)'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`")
_COMMAND = re.compile(r"\s+(?:dreambooth|python|torchrun|accelerate|pip|hf) ")
_KEPT = "\N{NO-BREAK SPACE}"


def wrapped(text: str, width: int | None, *, start: int = 0) -> str:
    """The text for a terminal of `width` columns, whose first line begins in the column `start`; unchanged without a width.

    Indented commands are there to be copied and stay as they are. A word that is longer than the terminal is wide stays whole.
    """
    if width is None:
        return text
    filler, *lines = "x" * start, *text.split("\n")
    first = _wrapped_line(filler + lines[0], width)[start:]
    return "\n".join([first, *(_wrapped_line(line, width) for line in lines[1:])])


def _wrapped_line(line: str, width: int) -> str:
    if _COMMAND.match(line):
        return line
    whole = _QUOTED.sub(lambda match: match[0].replace(" ", _KEPT), line)
    indent = "  " if line.startswith("- ") else line[: len(line) - len(line.lstrip())]
    filled = textwrap.fill(whole, width, break_long_words=False, break_on_hyphens=False, subsequent_indent=indent)
    return filled.replace(_KEPT, " ") if _KEPT not in line else filled
