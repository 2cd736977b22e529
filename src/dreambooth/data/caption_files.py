"""The captions of a picture in a file beside it: each line of a text file is one, or a JSON file says them.

Captions of one picture are alternatives, of which each step draws one. `{red|blue}` stands for two captions as well.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreambooth.data.reading import text_of
from dreambooth.data.records import Role
from dreambooth.errors import PhotoError
from dreambooth.reading import check_template, parse_json, shown_value

__all__ = ["MOST_ALTERNATIVES", "captions_in", "read_captions"]

MOST_ALTERNATIVES = 64
"""A picture with more captions is refused: each of them is encoded before training."""

_MOST_BYTES = 1 << 20
_PLACEHOLDERS: dict[Role, frozenset[str]] = {
    "instance": frozenset({"token", "class_word"}),
    "prior": frozenset({"class_word"}),
}
_CAPTION_KEYS = ("caption", "captions", "text", "prompt")
_TAG_KEY = "tags"
_CHOICE = re.compile(r"\{\{|\}\}|\{([^{}|]*(?:\|[^{}|]*)+)\}")


def read_captions(path: Path, *, role: Role) -> tuple[str, ...]:
    """The captions in a .txt, .caption or .json file, with single spaces between their words; none if nothing is in it.

    Raises PhotoError, with the problem without the file's name and the advice as its hint, when the file cannot be read, is
    not UTF-8 (a byte order mark is allowed), is not JSON as its name says, or has a placeholder that is not known for the role.
    """
    advice = {"not_utf8": "Save the caption as UTF-8.", "too_large": "Remove it: a caption has a few words."}
    text = text_of(path, most_bytes=_MOST_BYTES, **advice)
    if path.suffix.lower() != ".json":
        return captions_in(text.splitlines(), role=role)
    try:
        value = parse_json(text) if text.strip() else {}
    except ValueError as error:
        raise PhotoError(f"is not valid JSON: {error}", hint='Write {"caption": "..."}, or remove it.') from error
    if not isinstance(value, dict):
        raise PhotoError("holds no JSON object", hint='Write {"caption": "..."}, or remove it.')
    return captions_in(said_in(value), role=role)


def said_in(record: Mapping[str, Any]) -> list[str]:
    """The captions in a JSON object: of the first known key, a text or a list of texts, else all its tags as one caption.

    Raises PhotoError when that key holds something else.
    """
    key = next((name for name in (*_CAPTION_KEYS, _TAG_KEY) if record.get(name)), None)
    if key is None:
        return []
    texts = [record[key]] if isinstance(record[key], str) else record[key]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise PhotoError(f"has {shown_value(record[key])} as its {key}", hint="Give a text, or a list of texts.")
    return [", ".join(texts)] if key == _TAG_KEY else texts


def captions_in(lines: list[str], *, role: Role) -> tuple[str, ...]:
    """The templates of all alternatives in some lines. Raises PhotoError as `read_captions` does."""
    captions: dict[str, None] = {}
    for line in lines:
        caption = " ".join(line.split())
        for template in itertools.islice(_expanded(caption), MOST_ALTERNATIVES + 1) if caption else ():
            try:
                captions[check_template(" ".join(template.split()), _PLACEHOLDERS[role])] = None
            except ValueError as error:
                raise PhotoError(str(error), hint="Change the caption; double a literal brace.") from error
    if len(captions) > MOST_ALTERNATIVES:
        hint = "Use fewer lines, or fewer choices such as {red|blue}: each combination of them is a caption."
        raise PhotoError(f"has more than {MOST_ALTERNATIVES} captions", hint=hint)
    return tuple(captions)


def _expanded(caption: str) -> itertools.chain[str]:
    """Every combination of the choices in a caption; doubled braces are no choice."""
    parts: list[tuple[str, ...]] = []
    end = 0
    for found in _CHOICE.finditer(caption):
        parts += [(caption[end : found.start()],), (found[0],) if found[1] is None else tuple(found[1].split("|"))]
        end = found.end()
    parts.append((caption[end:],))
    return itertools.chain("".join(chosen) for chosen in itertools.product(*parts))
