"""`python -m experiments.keeping`: the numbers of docs/explanation/prior.md, made by typed commands; resumes if stopped.

`variants`: the toybox preset with a few flags more, for each subject. `rows`: subjects learned one after the other. What was
measured is kept in OUTPUT/numbers.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from dreambooth.cli.terminal import ENVIRONMENT
from dreambooth.errors import DreamboothError
from experiments.keeping.variants import VARIANTS
from experiments.results.numbers import kept

__all__ = ["main"]

SUBJECTS = ("marked-ball", "belted-vase", "banded-container", "zigzag-mug", "crossed-teapot")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, print the table; 0 when it is done, 2 when it cannot be.

    Of variants, it also writes a figure, OUTPUT/frontier.svg.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    parser = argparse.ArgumentParser(prog="python -m experiments.keeping", description=__doc__)
    parser.add_argument("what", choices=("variants", "rows"))
    parser.add_argument("--output", type=Path, default=Path("runs/keeping"))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS))
    asked = parser.parse_args(arguments)
    try:
        sys.stdout.write(_rows(asked.output) if asked.what == "rows" else _variants(asked))
    except DreamboothError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _variants(asked: argparse.Namespace) -> str:
    from experiments.keeping.frontier import frontier  # these import torch
    from experiments.keeping.measure import SCALE, measure
    from experiments.keeping.table import difference_table, table

    pairs = [(variant, name) for name in asked.subjects for variant in asked.variants]
    found = {pair: kept(asked.output, "-".join(pair), partial(measure, asked.output, *pair, SCALE)) for pair in pairs}
    (asked.output / "frontier.svg").write_text(frontier(found), encoding="utf-8")
    return "\n".join(filter(None, (table(found), difference_table(found))))


def _rows(output: Path) -> str:
    from experiments.keeping.measure import SCALE
    from experiments.keeping.rows import ROWS, measure_row, row_table

    return row_table([kept(output, "+".join(row), partial(measure_row, output, row, SCALE)) for row in ROWS])


if __name__ == "__main__":
    sys.exit(main())
