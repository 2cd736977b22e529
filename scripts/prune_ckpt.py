"""Shrink a model file with the original program's command line: `python scripts/prune_ckpt.py --ckpt model.ckpt`.

It writes model-pruned.ckpt next to the file, using the same code as `dreambooth convert`.
"""

import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the program listens itself, Ctrl-C ends it without a traceback

try:
    from dreambooth.compat.prune import main
except ModuleNotFoundError as error:
    sys.exit(f"{error}. Install the project first: pip install -c constraints.txt -e .")

if __name__ == "__main__":
    sys.exit(main())
