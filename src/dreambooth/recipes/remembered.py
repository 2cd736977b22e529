"""A folder whose contents follow from some numbers remembers them, so that nothing in it is taken for an answer to others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from dreambooth.errors import SettingsError
from dreambooth.files import write_json

__all__ = ["check_remembered"]


def check_remembered(path: Path, asked: Mapping[str, object], *, hint: str) -> None:
    """Write what is asked to the JSON file `path`, or hold it against what is written there.

    Raises SettingsError that names every difference.
    """
    if not path.exists():
        write_json(path, asked)
        return
    there = json.loads(path.read_text(encoding="utf-8"))
    problems = [
        f"{name} is {value}, and {path} says {there.get(name)}" for name, value in asked.items() if there.get(name) != value
    ]
    if problems:
        raise SettingsError(problems, hint=hint)
