"""`python -m dreambooth.toybox`: the small world, and the model that was trained on it."""

from __future__ import annotations

from dreambooth.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    raise SystemExit(main(program="toybox"))
