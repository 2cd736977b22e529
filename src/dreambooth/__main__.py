"""`python -m dreambooth` is the same as `dreambooth`."""

from __future__ import annotations

from dreambooth.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    raise SystemExit(main())
