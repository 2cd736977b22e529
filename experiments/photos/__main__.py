"""`python -m experiments.photos`: how masks, captions and buckets change what is learned from photos of one place.

Every arm trains the toybox preset on the same five photos of each subject, and is measured on the same prompts from the same
noise. What was measured is kept in OUTPUT/numbers, so a stopped measurement is continued by the same command.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dreambooth.cli.terminal import ENVIRONMENT
from dreambooth.errors import DreamboothError
from experiments.photos.arms import ARMS, SUBJECTS

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, print the tables; 0 when it is done, 2 when it cannot be."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    parser = argparse.ArgumentParser(prog="python -m experiments.photos", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/photos"))
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--steps", type=int, default=200, help="training steps of every run")
    asked = parser.parse_args(arguments)
    from experiments.photos.measure import measured  # imports torch
    from experiments.photos.table import tables

    try:
        found = {
            (arm, name): measured(asked.output, arm, name, steps=asked.steps) for name in asked.subjects for arm in asked.arms
        }
    except DreamboothError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(tables(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
