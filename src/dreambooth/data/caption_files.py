"""The caption in a text file beside a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dreambooth.data.settings import check_template
from dreambooth.errors import PhotoError
from dreambooth.reading import read_text

if TYPE_CHECKING:
    pass
from dreambooth.data.records import Role

__all__ = ["read_caption"]

_MOST_BYTES = 1 << 20
_PLACEHOLDERS: dict[Role, frozenset[str]] = {
    "instance": frozenset({"token", "class_word"}),
    "prior": frozenset({"class_word"}),
}


def read_caption(path: Path, *, role: Role) -> str | None:
    """The caption in a text file: lines joined by single spaces; None when there is nothing in it.

    Raises PhotoError, with the problem without the file's name and the advice as its hint, when the file cannot be read, is
    not UTF-8 (a byte order mark is allowed) or has a placeholder that is not known for the role.
    """
    try:
        text = read_text(path, most_bytes=_MOST_BYTES, encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PhotoError("is not UTF-8 text", hint="Save the caption as UTF-8.") from error
    except ValueError as error:
        raise PhotoError(f"is {error}", hint="Remove it: a caption has a few words.") from error
    except OSError as error:
        raise PhotoError(f"cannot be read: {error.strerror}", hint="Make it readable, or remove it.") from error
    caption = " ".join(text.split())
    if not caption:
        return None
    try:
        return check_template(caption, _PLACEHOLDERS[role])
    except ValueError as error:
        raise PhotoError(str(error), hint="Change the caption; double a literal brace.") from error
