"""What a run says at its beginning and its end, and how to resume it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreambooth.config import read_yaml
from dreambooth.data.captions import named_subjects
from dreambooth.display import Display, quoted
from dreambooth.errors import TrainingError
from dreambooth.memory.plan import PRESETS, describe_plan
from dreambooth.runs.folder import RunFolder
from dreambooth.runtime.compilation import describe_compilation
from dreambooth.runtime.device import describe_device, is_out_of_memory
from dreambooth.trainees.parts import trained_parts
from dreambooth.trainer.ready import Ready
from dreambooth.trainer.workload import levers_to_pull, workload_of
from dreambooth.training.checkpoints import find_checkpoints
from dreambooth.training.settings import FileLayout

__all__ = ["announce", "config_comment", "explained_when_out_of_memory", "how_to_go_on", "resume_command", "times_text"]


@contextmanager
def explained_when_out_of_memory(ready: Ready) -> Iterator[None]:
    """Nothing is saved here: the step in which memory ran out may be half done, and the last checkpoint is whole."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        workload = workload_of(ready.settings, ready.size, num_processes=ready.processes.count)
        levers = levers_to_pull(ready.settings, ready.plan, workload)
        more = f"Resumed with {' or '.join(levers)} it needs less, for the same numbers.\n" if levers else ""
        raise TrainingError(
            f"{describe_device(ready.device)}: out of memory ({str(error).splitlines()[0]})",
            hint=f"{more}{how_to_go_on(ready.run, ready.settings.output.file_layout)}",
        ) from error


def announce(ready: Ready, display: Display) -> None:
    """Say what is trained, where, in which arithmetic, on what, and for how long."""
    settings = ready.settings
    family = ready.base.family
    trained = " and ".join(family.parts[name].title for name in trained_parts(settings.trainee, family))
    others = ready.processes.count
    each = settings.loop.steps * settings.loop.examples_per_step / len(ready.photos)
    display.say(
        f"{ready.base.report.title} from {settings.base.model}: {trained} train on {describe_device(ready.device)} "
        f"in {ready.policy.name} at {ready.size} px"
        + (f", {others} processes share each step" if others > 1 else "")
        + (" and the weights" if ready.plan.shard else "")
    )
    if ready.plan != PRESETS["cpu"]:
        display.say(f"Memory plan {settings.memory.memory_preset}: {describe_plan(ready.plan)}")
    if ready.device.type == "cuda" or settings.loop.compile not in ("auto", "off"):
        display.say(f"In training {describe_compilation(settings.loop.compile)}")
    if ready.predicted is not None:
        display.say(ready.predicted)
    display.say(
        f"{len(ready.photos)} photos of {_subjects(ready)}, {settings.loop.steps} steps: "
        f"each photo is seen {'less than once' if each < 1 else f'about {times_text(round(each))}'}"
    )


def resume_command(run: Path, layout: FileLayout) -> str:
    """What is typed to go on with a run; by the door through which it came, when that still has something to do at the end."""
    return f"python main.py -r {quoted(run)}" if layout == "joepenna" else f"dreambooth train --resume {quoted(run)}"


def times_text(count: int) -> str:
    """Once is 1 time, and so on."""
    return "1 time" if count == 1 else f"{count} times"


def _subjects(ready: Ready) -> str:
    named = named_subjects((one.photo for one in ready.photos), ready.settings.subject)
    names = [f"'{words.token} {words.class_word}'".replace(" '", "'") for words in named]
    return names[0] if len(names) == 1 else f"{len(names)} subjects ({', '.join(names)})"


def config_comment(ready: Ready) -> str:
    """What stands above the settings in the run's config.yaml."""
    run = ready.run
    return (
        f"Everything that made this run. To go on with it:  {resume_command(run.path, ready.settings.output.file_layout)}\n"
        f"To repeat it:  dreambooth train --preset {quoted(run.config)} --output ANOTHER_FOLDER"
    )


def how_to_go_on(run: RunFolder, layout: FileLayout) -> str:
    """What is kept of a run that stopped, and the command that resumes it."""
    found = find_checkpoints(run)
    kept = (
        f"The run is saved at step {found[-1].step}." if found else "No step was saved yet; class images and latents are kept."
    )
    command = resume_command(run.path, layout)
    is_sharded = run.config.exists() and read_yaml(run.config).get("memory", {}).get("shard")
    again = f"{command} --no-shard\n  torchrun --nproc-per-node N -m {command}" if is_sharded else command
    return f"Stopped. {kept} To go on:\n  {again}"
