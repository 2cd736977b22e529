"""A second name for `prune_ckpt.py`."""

import runpy
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).with_name("prune_ckpt.py")), run_name="__main__")
