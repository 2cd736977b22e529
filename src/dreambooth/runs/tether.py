"""A command that is asked to stop when the process that started it is gone, however that ended.

Linux alone can do so. Elsewhere the command goes on by itself, and whoever needs its work looks at the run's state.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

__all__ = ["tethered"]

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


def tethered(command: Sequence[str]) -> list[str]:
    """The command to start in place of `command`, from a thread that lives as long as its process; it has the same number."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-m", "dreambooth.runs.tether", str(os.getpid()), *command]


def _become(starter: int, command: Sequence[str]) -> None:
    """Run the command in this process, which gets SIGHUP when `starter` is gone.

    The system sends it once for each thread of `starter` that the process is handed to on the way, which may take seconds on a
    busy machine. A training counts any number of SIGHUPs as one request to stop; a second SIGTERM would end it unsaved.
    """
    import ctypes

    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGHUP))
    if os.getppid() == starter:  # and not gone before it could be watched
        os.execv(command[0], list(command))


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
