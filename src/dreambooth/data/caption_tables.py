"""Tables of captions as Hugging Face's imagefolder has them: `metadata.jsonl` or `metadata.csv` beside the pictures."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dreambooth.data.caption_files import captions_in, said_in
from dreambooth.data.listing import stem_of
from dreambooth.data.reading import text_of
from dreambooth.data.records import Role
from dreambooth.display import counted
from dreambooth.errors import PhotoError
from dreambooth.reading import parse_json, printable

__all__ = ["read_caption_table"]

_NAME = "file_name"
_MOST_BYTES = 64 << 20


def read_caption_table(path: Path, *, role: Role) -> dict[str, tuple[str, ...]]:
    """Caption templates by the stem of their picture, for the lines that have any.

    Several lines about one picture are alternatives. Raises PhotoError, with the problem without the file's name and the
    advice as its hint.
    """
    advice = {"not_utf8": "Save it as UTF-8.", "too_large": "Remove it, or give a smaller one."}
    text = text_of(path, most_bytes=_MOST_BYTES, **advice)
    said: dict[str, list[str]] = {}
    for number, record in _records(text, path):
        if not isinstance(record, dict) or not isinstance(name := record.get(_NAME), str) or not name:
            hint = 'Write lines such as {"file_name": "01.jpg", "text": "photo of a {token} {class_word}"}.'
            raise PhotoError(f"line {number} has no {_NAME}", hint=hint)
        try:
            said.setdefault(stem_of(path.parent / name), []).extend(said_in(record))
        except PhotoError as error:
            raise PhotoError(f"line {number} {error.problems[0]}", hint=error.hint) from error
    captions: dict[str, tuple[str, ...]] = {}
    for stem, lines in said.items():
        try:
            captions[stem] = captions_in(lines, role=role)
        except PhotoError as error:
            raise PhotoError(f"{printable(Path(stem).name)}: {error.problems[0]}", hint=error.hint) from error
    return {stem: found for stem, found in captions.items() if found}


def unknown_names(captions: dict[str, tuple[str, ...]], pictures: frozenset[str]) -> str | None:
    """What is wrong with lines about pictures that do not exist; None if there are none."""
    unknown = [stem for stem in captions if stem not in pictures]
    if not unknown:
        return None
    return f"names {counted(len(unknown), 'image')} that cannot be found, such as {printable(Path(unknown[0]).name)}"


def _records(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and record of every line that is not empty."""
    if path.suffix.lower() == ".csv":
        try:
            yield from enumerate(csv.DictReader(text.splitlines(), strict=True), start=2)
        except csv.Error as error:
            raise PhotoError(f"is not a valid table: {error}", hint="Write the columns file_name and text.") from error
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                yield number, parse_json(line)
            except ValueError as error:
                raise PhotoError(f"line {number} is not valid JSON: {error}", hint="Write one object per line.") from error
