"""`python -m experiments.results`: all numbers, tables and images of docs/explanation/results.md, made with commands."""

from __future__ import annotations

import argparse
import os
import sys

from dreambooth.cli.terminal import ENVIRONMENT
from dreambooth.errors import DreamboothError
from experiments.results.verb import add_arguments, measure

__all__ = ["main"]


def main() -> int:
    """Run the requested command; returns 0 on success, 2 on a user error."""
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
