"""`python -m experiments.keeping`: the numbers of docs/explanation/prior.md, made by typed commands; resumes if stopped.

Each variant is the toybox preset with a few flags more. A variant's numbers for a subject are kept in OUTPUT/numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from dreambooth.cli.terminal import ENVIRONMENT
from dreambooth.errors import DreamboothError
from experiments.keeping.table import table
from experiments.keeping.variants import VARIANTS

__all__ = ["main"]

SUBJECTS = ("marked-ball", "belted-vase", "banded-container", "zigzag-mug", "crossed-teapot")


def main() -> int:
    """Measure what is missing, print the table; 0 when it is done, 2 when it cannot be."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    parser = argparse.ArgumentParser(prog="python -m experiments.keeping", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/keeping"))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS))
    asked = parser.parse_args()
    try:
        found = {
            (variant, name): _numbers(asked.output, variant, name) for name in asked.subjects for variant in asked.variants
        }
    except DreamboothError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(table(found))
    return 0


def _numbers(output: Path, variant: str, name: str) -> dict[str, Any]:
    file = output / "numbers" / f"{variant}-{name}.json"
    if not file.is_file():
        from experiments.keeping.measure import measure

        found = measure(output, variant, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=1), encoding="utf-8")
    numbers: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return numbers


if __name__ == "__main__":
    sys.exit(main())
