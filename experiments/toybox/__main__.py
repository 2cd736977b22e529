"""`python -m experiments.toybox`: trains the bundled model from scratch and tests it."""

from __future__ import annotations

from dreambooth.cli.main import main
from experiments.toybox.verbs import PROGRAM

__all__: list[str] = []

if __name__ == "__main__":
    raise SystemExit(main(program=PROGRAM))
