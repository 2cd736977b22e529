"""The command `dreambooth`, and `python -m dreambooth`."""

from __future__ import annotations

import signal

__all__ = ["main"]


def main() -> int:
    """Run the command of the process's arguments; returns the exit code.

    Until the command listens for signals itself, Ctrl-C ends the process at once, instead of showing where Python was.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from dreambooth.cli.main import main as run

    return run()


if __name__ == "__main__":
    raise SystemExit(main())
