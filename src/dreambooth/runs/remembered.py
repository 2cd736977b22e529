"""A folder whose contents follow from some numbers remembers them, so that nothing in it is taken for an answer to others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dreambooth.errors import RunError, SettingsError
from dreambooth.files import write_json
from dreambooth.reading import printable, read_json, reason_of, shown_value

__all__ = ["check_remembered", "read_remembered"]


def check_remembered(path: Path, asked: Mapping[str, object], *, hint: str) -> None:
    """Write what is asked to the JSON file `path`, or hold it against what is written there.

    Raises SettingsError that names every difference, within a mapping by its dotted key; RunError as `read_remembered` does.
    """
    there = read_remembered(path, hint=hint)
    if there is None:
        write_json(path, asked)
        return
    now = dict(_leaves(asked))
    before = dict(_leaves({name: value for name, value in there.items() if name in asked}))
    problems = [
        f"{printable(key)} is {now.get(key)}, and {path} says {_shown(before.get(key))}"
        for key in {**now, **before}
        if now.get(key) != before.get(key)
    ]
    if problems:
        raise SettingsError(problems, hint=hint)


def read_remembered(path: Path, *, hint: str) -> dict[str, Any] | None:
    """What was written to the JSON file `path`; None where it is not there. Raises RunError when it is damaged.

    `hint` says how to do without.
    """
    if not path.exists():
        return None
    try:
        there = read_json(path)
    except (OSError, ValueError) as error:
        there, what = None, f"cannot be read ({reason_of(error)})"
    else:
        what = "holds nothing that was asked"
    if not isinstance(there, dict) or not there:
        raise RunError(
            f"{path}: {what}; it should say what this folder was made from",
            hint=f"{hint} Or remove that file, if nothing has changed since.",
        )
    return there


def _shown(value: object) -> str:
    return printable(value) if isinstance(value, str) else shown_value(value)


def _leaves(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
