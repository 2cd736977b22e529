"""Train as the original Dreambooth-Stable-Diffusion did: the same options, the same files in the same places.

    python main.py --base configs/stable-diffusion/v1-finetune_unfrozen.yaml -t --actual_resume model.ckpt -n job --gpus 0, \
        --data_root photos/rex --reg_data_root class-images/dog --class_word dog

What each option does here: docs/reference/from-the-original.md. In new work, `dreambooth train` says the same in fewer words.
"""

import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the program listens itself, Ctrl-C ends it without a traceback

try:
    from dreambooth.compat.main import main
except ModuleNotFoundError as error:
    sys.exit(f"{error}. Install the project first: pip install -c constraints.txt -e .")

if __name__ == "__main__":
    sys.exit(main())
