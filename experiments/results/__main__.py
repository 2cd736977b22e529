"""`python -m experiments.results`: every number, table and picture of docs/explanation/results.md, made by typed commands."""

from __future__ import annotations

import argparse
import os
import sys

from dreambooth.cli.terminal import ENVIRONMENT
from dreambooth.errors import DreamboothError
from experiments.results.verb import add_arguments, measure

__all__ = ["main"]


def main() -> int:
    """Make what is asked for; 0 when it is done, 2 when it cannot be."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    parser = argparse.ArgumentParser(prog="python -m experiments.results", description=__doc__)
    add_arguments(parser)
    try:
        measure(parser.parse_args())
    except DreamboothError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
