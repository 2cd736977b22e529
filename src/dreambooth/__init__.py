"""DreamBooth for Stable Diffusion: teach a model a new subject from a few photos without forgetting the rest.

Functions, `Run`, `Picture` and the errors are loaded at their first use, so that importing the package is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dreambooth.api.functions import convert, evaluate, generate, inspect, plan, prior, train
    from dreambooth.api.run import Picture, Run
    from dreambooth.api.run import open_run as open  # noqa: A004 - as in other libraries, it is always called by its full name
    from dreambooth.errors import (
        DreamboothError,
        Interrupted,
        ModelFileError,
        PhotoError,
        RunError,
        SettingsError,
        TrainingError,
    )

__all__ = [
    "DreamboothError",
    "Interrupted",
    "ModelFileError",
    "PhotoError",
    "Picture",
    "Run",
    "RunError",
    "SettingsError",
    "TrainingError",
    "__version__",
    "convert",
    "evaluate",
    "generate",
    "inspect",
    "open",
    "plan",
    "prior",
    "train",
]

__version__ = "0.1.0"

_FUNCTIONS = ("convert", "evaluate", "generate", "inspect", "plan", "prior", "train")
_PLACES = {
    **{name: ("dreambooth.api.functions", name) for name in _FUNCTIONS},
    "Picture": ("dreambooth.api.run", "Picture"),
    "Run": ("dreambooth.api.run", "Run"),
    "open": ("dreambooth.api.run", "open_run"),
}


def __getattr__(name: str) -> object:
    """Load a public name at its first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'dreambooth' has no attribute {name!r}")
    module, attribute = _PLACES.get(name, ("dreambooth.errors", name))
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
