"""The original program's YAML of a checkpoint: accepted, checked against the tensors, never needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dreambooth.config import read_yaml
from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.families.family import Family

__all__ = ["check_original_config", "config_beside", "config_entries", "contradictions", "flat_entries"]

_UNET = "model.params.unet_config.params"
_TEXT = "model.params.cond_stage_config.target"
_OWN_YAML = "Give the YAML that belongs to the checkpoint, or omit --config."


def check_original_config(path: Path, family: Family) -> None:
    """Raise ModelFileError that lists every entry of the YAML at `path` that the model's tensors contradict.

    Entries that are left out are not missed: the original program had defaults for them.
    """
    entries = config_entries(path)
    if not any(name in entries for name in family.original_config):
        raise ModelFileError(f"{path}: not in the format of the original code (no {_UNET})", hint="Omit --config.")
    if problems := contradictions(entries, family):
        raise ModelFileError([f"{path}: {problem}" for problem in problems], hint=_OWN_YAML)


def config_entries(path: Path) -> dict[str, Any]:
    """The entries (dotted key to value) of a YAML. Raises ModelFileError when it cannot be read."""
    try:
        return dict(flat_entries(read_yaml(path)))
    except SettingsError as error:
        raise ModelFileError(error.problems, hint=_OWN_YAML) from error


def config_beside(model: Path) -> dict[str, Any]:
    """The entries (dotted key to value) of the YAML of the model's own name beside it, where other programs look for it too;
    empty when there is none, or when it is something else.
    """
    path = model.with_suffix(".yaml")
    if path == model or not path.is_file():
        return {}
    try:
        return dict(flat_entries(read_yaml(path)))
    except SettingsError:
        return {}


def contradictions(entries: Mapping[str, Any], family: Family) -> list[str]:
    """A sentence for every entry (dotted key to value) that the model's tensors contradict."""
    problems = [
        f"{name} is {entries[name]!r}; this model needs {value!r}"
        for name, value in family.original_config.items()
        if name in entries and _ordered(entries[name], name) != value
    ]
    if "OpenCLIP" in str(entries.get(_TEXT)) and _TEXT not in family.original_config:
        problems.append(f"{_TEXT} is {entries[_TEXT]!r}; the model's text encoder is CLIP's")
    return problems


def flat_entries(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every entry of a tree of mappings as (dotted key, value); lists are values."""
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from flat_entries(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _ordered(value: Any, name: str) -> Any:
    """Resolutions are a set in the original program; its files write them in any order."""
    return sorted(value) if name.endswith("attention_resolutions") and isinstance(value, list) else value
