"""The place where JoePenna's program had `scripts/prune_ckpt.py`: `python prune_ckpt.py --ckpt model.ckpt`."""

from __future__ import annotations

import runpy
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).parent / "scripts" / "prune_ckpt.py"), run_name="__main__")
