"""`python main.py` of the original programs: translates its command line, then trains as `dreambooth train` does."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from dreambooth.cli.terminal import arguments_in_utf8, run_command
from dreambooth.compat.arguments import Given, read_arguments
from dreambooth.compat.earlier import earlier_job
from dreambooth.compat.later import is_later, later_job
from dreambooth.compat.training_flags import EARLIER_ONLY, FLAGS, LATER_ONLY
from dreambooth.compat.translation import HINT, Collected, Job, truth
from dreambooth.compat.wording import OriginalWords, in_original_words
from dreambooth.display import Display
from dreambooth.display_silent import SilentDisplay
from dreambooth.errors import RunError, SettingsError

__all__ = ["main", "read_job"]

_COMMAND = "python main.py"
_SENTENCE = "Train with the options and files of the original programs."
_STARTED = "DREAMBOOTH_STARTED"  # start time of the first process, so that all processes share one log folder
_DEBUG = "DREAMBOOTH_DEBUG"
_CONFIG = "config.yaml"
_DEEPEST = 3  # levels from a model up to its run folder: ckpts/trainstep_ckpts


def main(arguments: Sequence[str] | None = None) -> int:
    """Train with the given arguments (default: those of the process). Returns the exit code."""
    given = arguments_in_utf8() if arguments is None else list(arguments)
    return run_command(lambda: _run(given))


def _run(arguments: Sequence[str]) -> None:
    given = read_arguments(_COMMAND, _SENTENCE, FLAGS, arguments)
    if truth(
        given.values.get("debug", "false"), "--debug", Collected()
    ):  # before translation, so that its errors show a traceback as well
        os.environ[_DEBUG] = "1"
    job = read_job(given)
    if job.is_debug:
        os.environ[_DEBUG] = "1"
    if len(job.gpus) > 1 and "LOCAL_RANK" not in os.environ:
        _start_one_for_each(job.gpus, arguments)
    from dreambooth.compat.training import go_on, train_job

    is_first = os.environ.get("RANK", "0") == "0"
    display: Display = OriginalWords(is_later=is_later(given)) if is_first else SilentDisplay()
    resumed = Path(given.values["resume"]) if "resume" in given.values else None
    run = None if resumed is None else _run_folder(resumed)
    for note in job.notes:
        display.say(note)
    with in_original_words(is_later=is_later(given)):
        if run is None or resumed is None:
            train_job(job, display)
        else:
            go_on(run, resumed, job, display)


def read_job(given: Given) -> Job:
    """Translate a command line of either generation of the program.

    Raises SettingsError with all problems.
    """
    if not is_later(given):
        return earlier_job(given, started=_started(datetime.now()))
    earlier = EARLIER_ONLY & {*given.values, *given.lists}
    if earlier:
        later = LATER_ONLY & given.values.keys()
        raise SettingsError(
            f"{_listed(earlier)} of the first program cannot be combined with {_listed(later)} of the second; "
            "use the options of one program only",
            hint=HINT,
        )
    return later_job(given, started=_started(datetime.now(timezone.utc)))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(f"--{name}" for name in names))


def _started(now: datetime) -> str:
    return os.environ.get(_STARTED) or now.strftime("%Y-%m-%dT%H-%M-%S")


def _start_one_for_each(gpus: Sequence[int], arguments: Sequence[str]) -> None:
    """Replace this process by a launcher that starts one process per GPU with the same command line."""
    import torch

    if (count := torch.cuda.device_count()) <= max(gpus):
        raise SettingsError(
            f"--gpus lists GPU {max(gpus)}, but {count or 'no'} CUDA GPU{' was' if count <= 1 else 's were'} found",
            hint="`nvidia-smi -L` lists the GPUs. Without --gpus, training uses the first GPU, or the CPU.",
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")  # --gpus counts among the visible GPUs
    chosen = [visible[gpu] if visible != [""] else str(gpu) for gpu in gpus]
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": ",".join(chosen),
        _STARTED: _started(datetime.now()),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(len(gpus)), "-m", "dreambooth.compat.main")
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *launch, *arguments], environment)


def _run_folder(path: Path) -> Path:
    """`path` if it is a log folder, otherwise the log folder that contains it."""
    if not path.exists():
        raise RunError(f"{path}: no such folder or file", hint="Use a log folder, such as logs/rex2026-01-31T12-00-00_job.")
    folder = next((place for place in (path, *path.parents[:_DEEPEST]) if (place / _CONFIG).is_file()), None)
    if folder is None:
        raise RunError(
            f"{path}: does not belong to a run of this program (no {_CONFIG} was found); optimizer states written by the "
            "original program cannot be read",
            hint=f"Start a new run from its weights: --actual_resume {path}",
        )
    return folder


if __name__ == "__main__":
    sys.exit(main())
