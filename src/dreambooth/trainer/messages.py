"""Messages about resuming a run, shown when it stops, fails or ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreambooth.config import read_yaml
from dreambooth.display import quoted
from dreambooth.errors import TrainingError
from dreambooth.runs.folder import RunFolder
from dreambooth.runtime.device import describe_device, is_out_of_memory
from dreambooth.trainer.ready import Ready
from dreambooth.training.checkpoints import find_checkpoints
from dreambooth.training.settings import FileLayout

__all__ = ["config_comment", "explained_when_out_of_memory", "resume_command", "resume_hint", "times_text"]


@contextmanager
def explained_when_out_of_memory(ready: Ready) -> Iterator[None]:
    """Explain an out-of-memory error. Nothing is saved: the current step may be half done; the last checkpoint is intact."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        flags = ready.memory_flags
        more = f"Resume with {' or '.join(flags)} to use less memory with the same results.\n" if flags else ""
        raise TrainingError(
            f"{describe_device(ready.device)}: out of memory ({str(error).splitlines()[0]})",
            hint=f"{more}{resume_hint(ready.run, ready.outputs.layout)}",
        ) from error


def resume_command(run: Path, layout: FileLayout) -> str:
    """The command that resumes a run; for the joepenna layout its own program, which has work left to do at the end."""
    return f"python main.py -r {quoted(run)}" if layout == "joepenna" else f"dreambooth train --resume {quoted(run)}"


def times_text(count: int) -> str:
    """`1 time`, `2 times`, and so on."""
    return "1 time" if count == 1 else f"{count} times"


def config_comment(ready: Ready) -> str:
    """The comment above the settings in the run's config.yaml."""
    run = ready.run
    return (
        f"All settings of this run. To resume it:  {resume_command(run.path, ready.outputs.layout)}\n"
        f"To repeat it:  dreambooth train --preset {quoted(run.config)} --output ANOTHER_FOLDER"
    )


def resume_hint(run: RunFolder, layout: FileLayout) -> str:
    """What was saved of a stopped run, and the command that resumes it."""
    found = find_checkpoints(run)
    kept = (
        f"The run is saved at step {found[-1].step}." if found else "No step was saved yet; class images and latents are kept."
    )
    command = resume_command(run.path, layout)
    is_sharded = run.config.exists() and read_yaml(run.config).get("memory", {}).get("shard")
    again = f"{command} --no-shard\n  torchrun --nproc-per-node N -m {command}" if is_sharded else command
    return f"Stopped. {kept} To resume:\n  {again}"
