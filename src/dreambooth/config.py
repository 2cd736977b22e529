"""The base of every settings record, and the YAML files they are read from and written to.

The records themselves stand beside their owners (`data/settings.py`, `training/settings.py`, ...) and are put together in
`recipes/settings.py`. One schema is the command line, the YAML file and the reference page: a field's docstring is its
sentence in all three. Nothing here, nor in any `settings.py`, loads torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from dreambooth.errors import SettingsError
from dreambooth.files import write_text

__all__ = ["Settings", "differences", "flat_fields", "nearest", "parse_settings", "read_yaml", "write_yaml"]

SettingsType = TypeVar("SettingsType", bound="Settings")


class Settings(BaseModel):
    """A frozen settings record: unknown keys are refused, every field has a sentence below it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=(), allow_inf_nan=False
    )

    def is_changed(self, *names: str) -> tuple[str, ...]:
        """Those of the named fields whose value is not the default: an option without effect is an error, a default is not."""
        fields = type(self).model_fields
        return tuple(name for name in names if getattr(self, name) != fields[name].get_default(call_default_factory=True))


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name that looks most like `name`, or None when none is near."""
    found = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return found[0] if found else None


def flat_fields(settings: type[Settings], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of a settings tree as (dotted path, field name); the field name is also its flag's name."""
    for name, field in settings.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Settings):
            yield from flat_fields(annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", name


def parse_settings(settings: type[SettingsType], values: Mapping[str, Any], *, where: str) -> SettingsType:
    """Build a settings record from plain values.

    Raises SettingsError with every problem at once: unknown keys with the nearest valid name, wrong types and ranges, and
    rules between fields. `where` names the source of the values in the message ("runs/dog/config.yaml", "command line").
    """
    try:
        return settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError([_describe(problem, settings, where) for problem in error.errors()]) from error


def _describe(problem: Any, settings: type[Settings], where: str) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        paths = [dotted for dotted, _ in flat_fields(settings)]
        leaves = {name: dotted for dotted, name in flat_fields(settings)}
        near = nearest(path, paths) or leaves.get(nearest(str(problem["loc"][-1]), leaves) or "")
        return f"{where}: unknown setting '{path}'" + (f"; did you mean '{near}'?" if near else "")
    if problem["type"] == "missing":
        return f"{where}: '{path}' is missing and has no default"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if problem["type"] == "value_error":  # our own rules name their fields themselves
        return f"{where}: {message}"
    return f"{where}: '{path}' is {problem['input']!r}: {message[0].lower()}{message[1:]}"


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises SettingsError when the file is missing, is not YAML or is not a mapping."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such settings file", hint="Give an existing YAML file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not a YAML file: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected a mapping of settings, found {type(values).__name__}")
    return values


def write_yaml(path: Path, settings: Settings, *, comment: str) -> None:
    """Write a settings record with a comment above it; `read_yaml` and `parse_settings` give back an equal record."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    write_text(path, head + yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def differences(old: Settings, new: Settings, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted path to (old value, new value) for every leaf that differs between two records of one type."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, Settings) and isinstance(after, Settings):
            found.update(differences(before, after, f"{prefix}{name}."))
        elif before != after:
            found[f"{prefix}{name}"] = (before, after)
    return found
