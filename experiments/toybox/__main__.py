"""`python -m experiments.toybox`: the bundled model trained from nothing, counted, and taught subjects."""

from __future__ import annotations

from dreambooth.cli.main import main
from experiments.toybox.verbs import PROGRAM

__all__: list[str] = []

if __name__ == "__main__":
    raise SystemExit(main(program=PROGRAM))
