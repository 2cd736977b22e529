"""Settings of the browser interface. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dreambooth.config import Settings, Text

__all__ = ["WebSettings"]


class WebSettings(Settings):
    """Open the browser interface: the whole way from photos to a model file."""

    folder: Path = Path("projects")
    """Folder for the projects: photos, settings, runs and images of each subject."""

    host: Text = "127.0.0.1"
    """Address to listen on; 127.0.0.1 is reachable from this machine alone, 0.0.0.0 from everywhere."""

    port: Annotated[int, Field(ge=1, le=65535)] = 7860
    """Port to listen on."""

    allow_host: tuple[Text, ...] = ()
    """Further names under which browsers reach this server, such as a proxy's; one or more."""

    runs: Path = Path("runs")
    """Folder of runs of the command line that can be imported in the browser."""

    models: Path | None = None
    """Folder of model files to choose from in the browser; default: none, and a model is named by its path or hub id."""
