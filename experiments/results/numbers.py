"""Numbers that were measured, kept as files, so that a measurement that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["kept"]


def kept(output: Path, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The numbers in OUTPUT/numbers/NAME.json, measured if there is no such file."""
    file = output / "numbers" / f"{name}.json"
    if not file.is_file():
        found = measure()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=1), encoding="utf-8")
    numbers: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return numbers
