"""Where a model of the library transformers is that a user named by its folder or its hub id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dreambooth.errors import ModelFileError
from dreambooth.files import expanded
from dreambooth.weights.read import may_be_hub_id

__all__ = ["transformers_folder"]


def transformers_folder(name: str, *, example: str, fetch: Callable[[str], Path]) -> Path:
    """The folder of the model; a hub id is downloaded by `fetch`.

    Raises ModelFileError that names the hub id `example` when there is no such folder, and as `fetch` does.
    """
    path = expanded(Path(name))
    if path.exists():
        return path
    if not may_be_hub_id(name):
        hint = f"Use a folder in the transformers layout, or a hub id such as {example}."
        raise ModelFileError(f"{name}: no such folder", hint=hint)
    return fetch(name)
