"""A YAML file that holds a list of settings records under one key, such as the subjects of a run.

What is wrong in it is told with the name of the file and the place in its list, not with the place from which it was named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from dreambooth.config import Settings, nearest, parse_settings, read_yaml
from dreambooth.errors import SettingsError
from dreambooth.reading import WrongFileError, shown_value

__all__ = ["read_records"]

RecordType = TypeVar("RecordType", bound=Settings)


def read_records(file: Path, record: type[RecordType], *, key: str, each: str) -> list[RecordType]:
    """The records below `key`, of which messages call one `each`. Raises WrongFileError with every problem of the file."""
    try:
        values = read_yaml(file, expected=_shape(record, key))
    except SettingsError as error:
        raise WrongFileError(error.problems) from error
    problems, found = list(_problems_beside(values, file, record, key)), []
    for number, entry in enumerate(_entries(values, key), start=1):
        try:
            found.append(_record(entry, record, f"{file}: {each} {number}"))
        except SettingsError as error:
            problems += error.problems
    if problems:
        raise WrongFileError(problems)
    return found


def _entries(values: Mapping[str, Any], key: str) -> list[Any]:
    entries = values.get(key)
    return entries if isinstance(entries, list) else []


def _problems_beside(values: Mapping[str, Any], file: Path, record: type[Settings], key: str) -> Iterator[str]:
    """A message for every other key, and one if there is no list."""
    for name in values.keys() - {key}:
        near = nearest(name, (key,))
        yield f"{file}: unknown setting {shown_value(name)}; " + (
            f"did you mean '{key}'?" if near else f"expected '{key}' alone"
        )
    if not _entries(values, key):
        what = f"is {shown_value(values[key])}" if key in values else "is missing"
        yield f"{file}: {key} {what}: expected {_shape(record, key)}"


def _record(entry: Any, record: type[RecordType], place: str) -> RecordType:
    if not isinstance(entry, dict):
        raise SettingsError(f"{place} is {shown_value(entry)}: expected {', '.join(_required(record))}")
    return parse_settings(record, entry, where=place)


def _shape(record: type[Settings], key: str) -> str:
    """What the file should look like."""
    return f"'{key}:' and below it a list, each entry with {', '.join(_required(record))}"


def _required(record: type[Settings]) -> list[str]:
    return [name for name, field in record.model_fields.items() if field.is_required()]
