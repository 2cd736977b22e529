"""LoRA files as a user names them: FILE or FILE:STRENGTH, where FILE may also be a run folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.files import expanded
from dreambooth.weights.lora_apply import ScaledLora
from dreambooth.weights.lora_file import read_lora_file

__all__ = ["absolute_lora", "read_loras"]

_STRENGTH = re.compile(r"(?P<file>.+):(?P<strength>[+-]?(\d+\.?\d*|\.\d+))")


def read_loras(texts: Sequence[str]) -> list[ScaledLora]:
    """The named files with their strengths, 1 where none is given.

    Raises one error with everything that is wrong: SettingsError if a file does not exist, otherwise ModelFileError.
    """
    found, missing, problems = list[ScaledLora](), list[str](), list[str]()
    hint = None
    for text in texts:
        path, strength = _split(text)
        if not path.exists():
            missing.append(f"lora is {text}: no such file")
            continue
        try:
            found.append(ScaledLora(read_lora_file(path), strength))
        except ModelFileError as error:
            problems += error.problems
            hint = error.hint
    if missing:
        raise SettingsError([*missing, *problems], hint="Give a LoRA file, or with a strength FILE:0.8")
    if problems:
        raise ModelFileError(problems, hint=hint)
    return found


def absolute_lora(text: str) -> str:
    """The same file and strength by the file's absolute path."""
    path, strength = _split(text)
    return f"{path.absolute()}:{strength:g}"


def _split(text: str) -> tuple[Path, float]:
    """A file whose own name ends like a strength is meant if it exists."""
    whole, split = expanded(Path(text)), _STRENGTH.fullmatch(text)
    if split is None or whole.exists():
        return whole, 1.0
    return expanded(Path(split["file"])), float(split["strength"])
