"""Make images with the original program's command line: `python scripts/stable_txt2img.py --prompt "a photo of a dog"`.

Flags, file names and folders are the original's; the images come from the same code as `dreambooth generate`.
"""

import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the program listens itself, Ctrl-C ends it without a traceback

try:
    from dreambooth.compat.txt2img import main
except ModuleNotFoundError as error:
    sys.exit(f"{error}. Install the project first: pip install -c constraints.txt -e .")

if __name__ == "__main__":
    sys.exit(main())
