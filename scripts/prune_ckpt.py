"""A smaller model file with the command line of the original program: `python scripts/prune_ckpt.py --ckpt model.ckpt`.

It writes model-pruned.ckpt beside the file; the work is done by what `dreambooth convert` runs.
"""

import sys

try:
    from dreambooth.compat.prune import main
except ModuleNotFoundError as error:
    sys.exit(f"{error}. Install the project first: pip install -c constraints.txt -e .")

if __name__ == "__main__":
    sys.exit(main())
