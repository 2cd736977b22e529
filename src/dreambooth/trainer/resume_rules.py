"""Which settings may change when a run is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dreambooth.config import differences, parse_settings, read_yaml
from dreambooth.errors import RunError, SettingsError
from dreambooth.memory.plan import plan_of
from dreambooth.memory.settings import MemorySettings
from dreambooth.runs.folder import RunFolder
from dreambooth.schema.verbs import TrainSettings
from dreambooth.training.checkpoints import Checkpoint

__all__ = ["check_same_material", "settings_for_resume"]

_MAY_CHANGE = frozenset(
    {
        "loop.steps",
        "loop.max_train_hours",
        "loop.device",
        "loop.compile",
        "memory.memory_preset",
        "memory.optimizer_states",
        "memory.gradient_checkpointing",
        "memory.micro_batch_size",
        "memory.step_in_backward",
        "memory.states_on_host",
        "memory.stream_blocks",
        "memory.shard",
        "selection.select",
        "selection.early_stop_margin",
        "selection.early_stop_patience",
    }
)
_MAY_MOVE = frozenset(  # the files at these paths are compared by content, so the paths may differ
    {
        "base.model",
        "base.config",
        "subject.photos",
        "prior.prior_images",
        "prior.also_prior",
        "prior.prior_folder",
        "output.output",
    }
)


def settings_for_resume(run: RunFolder, changes: Mapping[str, Any]) -> TrainSettings:
    """The run's own settings with `changes` (dotted path to value) applied, if they are allowed.

    Steps may increase, unless the learning rate schedule depends on them. The time limit, the device, memory settings that do
    not change results and model selection may change, and folders may have moved. Raises RunError when the folder is not a
    run, and SettingsError naming every other difference.
    """
    if not run.config.is_file():
        raise RunError(
            f"{run.path}: not a run, {run.config.name} is missing", hint="Give the --output folder of an earlier training run."
        )
    stored = read_yaml(run.config)
    old = parse_settings(TrainSettings, stored, where=str(run.config))
    for path, value in changes.items():
        *sections, name = path.split(".")
        section = stored
        for part in sections:
            section = section.setdefault(part, {})
        section[name] = value
    new = parse_settings(TrainSettings, stored, where="command line")
    problems = [
        f"{path} was {before!r} when the run started and is now {after!r}"
        for path, (before, after) in differences(old, new).items()
        if path not in _MAY_CHANGE | _MAY_MOVE
    ]
    if "output.output" in changes and new.output.output.absolute() != run.path.absolute():
        problems.append(f"output is {new.output.output}, but a resumed run stays in {run.path}")
    if new.loop.steps < old.loop.steps:
        problems.append(f"loop.steps was {old.loop.steps} and is now {new.loop.steps}; it can only increase")
    if new.optimizer.optimizer == "adamw":
        problems += _other_states(old.memory, new.memory)
    schedule = new.optimizer.learning_rate_schedule
    if new.loop.steps != old.loop.steps and schedule != "constant":
        problems.append(f"loop.steps cannot increase: the {schedule} learning rate reaches zero at step {old.loop.steps}")
    if problems:
        raise SettingsError(
            problems, hint="A resumed run keeps its settings. Remove these options, or start a new run with --output."
        )
    return new.model_copy(update={"output": new.output.model_copy(update={"output": run.path})})


def _other_states(old: MemorySettings, new: MemorySettings) -> list[str]:
    """The optimizer states of the checkpoint have a fixed precision, whether a preset or a flag chose it."""
    if new.memory_preset == "auto":
        return [f"memory.memory_preset is auto, but the run started with {old.memory_preset}; name a preset"]
    before, after = (plan_of(memory.memory_preset, memory, has_bfloat16=True).optimizer_states for memory in (old, new))
    if before == after:
        return []
    return [
        f"memory.optimizer_states was {before} when the run started and is now {after}; "
        f"with --memory-preset {new.memory_preset} add --optimizer-states {before}"
    ]


def check_same_material(checkpoint: Checkpoint, made_of: Mapping[str, str]) -> None:
    """Raise RunError naming every difference from the checkpoint's inputs: the base model, photos, class images."""
    before = checkpoint.made_of
    problems = [
        f"{name} is {'missing' if name not in made_of else 'new' if name not in before else 'changed'}"
        for name in sorted({*before, *made_of})
        if before.get(name) != made_of.get(name)
    ]
    if problems:
        raise RunError(
            [f"{checkpoint.path}: the run was trained with other files", *problems],
            hint="Restore the original files, or start a new run with --output.",
        )
