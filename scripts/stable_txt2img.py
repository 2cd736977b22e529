"""Pictures with the command line of the original program: `python scripts/stable_txt2img.py --prompt "a photo of a dog"`.

The flags, the files and where they go are the original's; the work is done by what `dreambooth generate` runs.
"""

import sys

try:
    from dreambooth.compat.txt2img import main
except ModuleNotFoundError as error:
    sys.exit(f"{error}. Install the project first: pip install -c constraints.txt -e .")

if __name__ == "__main__":
    sys.exit(main())
