"""`python -m experiments.lora`: a LoRA against full training at equal time, extracted and merged; resumes if stopped.

What was measured is kept in OUTPUT/numbers; all numbers are in OUTPUT/lora.json, the tables in OUTPUT/lora.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dreambooth.cli.terminal import ENVIRONMENT
from dreambooth.errors import DreamboothError
from experiments.results.runs import Pair

__all__ = ["main"]

SUBJECTS = ("marked-ball", "belted-vase", "banded-container", "zigzag-mug", "crossed-teapot")
PAIRS = (Pair("marked-ball", "belted-vase"), Pair("banded-container", "marked-container"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, write and print the tables; 0 when it is done, 2 when it cannot be."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    parser = argparse.ArgumentParser(prog="python -m experiments.lora", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/lora"))
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), help="fewer take less time")
    parser.add_argument("--steps", type=int, default=400, help="steps of the full runs")
    asked = parser.parse_args(arguments)
    try:
        sys.stdout.write(_measured(asked.output, tuple(asked.subjects), asked.steps))
    except DreamboothError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _measured(output: Path, subjects: tuple[str, ...], steps: int) -> str:
    from experiments.lora.measure import measure_all  # these import torch
    from experiments.lora.runs import LoraScale
    from experiments.lora.tables import as_markdown

    scale = LoraScale()
    pairs = tuple(pair for pair in PAIRS if pair.first in subjects)
    scale = replace(scale, work=replace(scale.work, subjects=subjects, pairs=pairs, steps=steps))
    found = measure_all(output, scale)
    (output / "lora.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    text = as_markdown(found)
    (output / "lora.md").write_text(text, encoding="utf-8")
    return text


if __name__ == "__main__":
    sys.exit(main())
