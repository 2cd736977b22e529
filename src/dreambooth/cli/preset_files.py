"""The settings files that ship with the package, and those that a person gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dreambooth import presets
from dreambooth.config import nearest, read_yaml
from dreambooth.errors import SettingsError

__all__ = ["preset_names", "read_preset"]


def preset_names() -> list[str]:
    """The presets that ship with the package."""
    return sorted(file.stem for file in _shipped().glob("*.yaml"))


def read_preset(name: str) -> tuple[str, dict[str, Any]]:
    """A shipped preset or a YAML file: what to call it in messages, and its values.

    Raises SettingsError when there is none of that name or it is no mapping.
    """
    if name in preset_names():
        return f"preset {name}", read_yaml(_shipped() / f"{name}.yaml")
    if Path(name).suffix in (".yaml", ".yml") or Path(name).exists():
        return name, read_yaml(Path(name))
    near = nearest(name, preset_names())
    raise SettingsError(
        f"--preset is {name!r}: expected {', '.join(preset_names())} or a YAML file"
        + (f"; did you mean {near!r}?" if near else "")
    )


def _shipped() -> Path:
    return Path(presets.__path__[0])
