"""Settings of training many subjects. Loads no torch."""

from __future__ import annotations

from pathlib import Path

from dreambooth.config import Settings

__all__ = ["BatchSettings"]


class BatchSettings(Settings):
    """Train one model for each subject of a list, on all GPUs."""

    subjects: Path
    """YAML file with the subjects: the photos, words and settings of each, and the settings of all."""

    device: str | None = None
    """Device: cpu, cuda, cuda:1, mps; default: all GPUs, one subject on each, or the CPU if there is none."""

    output: Path = Path("runs/batch")
    """Folder for the runs, each named after its subject; finished work in it is kept."""
