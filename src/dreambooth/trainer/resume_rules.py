"""Which settings may change when a run is resumed."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from dreambooth.config import Settings, parse_settings, read_yaml
from dreambooth.display import quoted
from dreambooth.errors import RunError, SettingsError
from dreambooth.memory.plan import plan_of
from dreambooth.memory.settings import MemorySettings
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.untrained import is_untrained
from dreambooth.schema.verbs import TrainSettings
from dreambooth.training.checkpoints import Checkpoint, find_checkpoints
from dreambooth.weights.other_folders import refuse_runs

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
        "base.vae",
        "subject.photos",
        "subject.subjects.photos",
        "subject.subjects.prior_images",
        "subject.mask_folder",
        "prior.prior_images",
        "prior.also_prior",
        "prior.prior_folder",
        "output.output",
    }
)


def settings_for_resume(run: RunFolder, changes: Mapping[str, Any]) -> TrainSettings:
    """The run's own settings with `changes` (dotted path to value) applied, if they are allowed.

    Steps may increase, unless the learning rate schedule depends on them. The time limit, the device, memory settings that do
    not change results and model selection may change, and folders may have moved. The same holds for what was edited in the
    run's config.yaml since its newest checkpoint. In a run of which nothing was trained every setting may change. Raises
    RunError when the folder is not a run, ModelFileError when it holds runs, and SettingsError naming every other difference.
    """
    if not run.config.is_file():
        refuse_runs(run.path)
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
    problems = []
    if "output.output" in changes and new.output.output.absolute() != run.path.absolute():
        problems.append(f"output is {new.output.output}, but a resumed run stays in {run.path}")
    hint = (
        f"A resumed run keeps its settings. Remove these options, or start a new run with them:\n  dreambooth train "
        f"--preset {quoted(run.config)} --output NEW_FOLDER {' '.join(map(_flag, changes))}".rstrip()
    )
    if not is_untrained(run):
        problems = [*_forbidden(old, new), *problems]
        if edited := [f"{run.config}: {problem}" for problem in _edited(run, old)]:
            hint = f"A resumed run keeps its settings. Put the earlier values back into {run.config.name}" + (
                ", and remove the options named above." if problems else ", or start a new run with --output."
            )
            problems += edited
    if problems:
        raise SettingsError(problems, hint=hint)
    return new.model_copy(update={"output": new.output.model_copy(update={"output": run.path})})


def _edited(run: RunFolder, configured: TrainSettings) -> list[str]:
    """What must not have changed in config.yaml since the newest checkpoint was written."""
    checkpoints = find_checkpoints(run)
    if not checkpoints or not checkpoints[-1].settings:
        return []
    try:
        saved = parse_settings(TrainSettings, checkpoints[-1].settings, where=str(checkpoints[-1].path))
    except SettingsError:  # an earlier version wrote it, whose settings had other names
        return []
    return _forbidden(saved, configured)


def _forbidden(old: TrainSettings, new: TrainSettings) -> list[str]:
    """Every difference between two records of settings that would change what was trained."""
    problems = [
        f"{path} was {before!r} when the run started and is now {after!r}"
        for path, (before, after) in _differences(old, new).items()
        if _NUMBER.sub("", path) not in _MAY_CHANGE | _MAY_MOVE
    ]
    if new.loop.steps < old.loop.steps:
        problems.append(f"loop.steps was {old.loop.steps} and is now {new.loop.steps}; it can only increase")
    if new.optimizer.optimizer == "adamw":
        problems += _other_states(old.memory, new.memory)
    schedule = new.optimizer.learning_rate_schedule
    if new.loop.steps != old.loop.steps and schedule != "constant":
        problems.append(f"loop.steps cannot increase: the {schedule} learning rate reaches zero at step {old.loop.steps}")
    return problems


_NUMBER = re.compile(r" \d+(?=\.)")  # of a record in a list


def _differences(old: Settings, new: Settings, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """{dotted path: (old value, new value)} for every leaf that differs between two records of the same type.

    In a list of records the path has the number of the record: `subject.subjects 2.token`.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, Settings) and isinstance(after, Settings):
            found.update(_differences(before, after, f"{prefix}{name}."))
        elif before and after and isinstance(before, tuple) and isinstance(before[0], Settings):
            if len(before) != len(after):
                found[f"{prefix}{name} (number)"] = (len(before), len(after))
            for number, (one, other) in enumerate(zip(before, after, strict=False), start=1):
                found.update(_differences(one, other, f"{prefix}{name} {number}."))
        elif before != after:
            found[f"{prefix}{name}"] = (before, after)
    return found


def _flag(path: str) -> str:
    """The option of a setting, whose value the reader knows."""
    return f"--{path.rpartition('.')[2].replace('_', '-')} ..."


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
    if problems := _changed_material(checkpoint.made_of, made_of):
        raise RunError(
            [f"{checkpoint.path}: the run was trained with other files", *problems],
            hint="Restore the original files, or start a new run with --output.",
        )


_NUMBERED = re.compile(r"(?P<what>.*?) (?P<number>\d+) \((?P<name>.*)\)", re.DOTALL)


def _changed_material(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """One line for each input that is missing, new or changed.

    Files are matched by name and then by content, not by number: after one deleted photo all later ones have other numbers.
    """
    old, new = _by_name(before), _by_name(after)
    gone, added, problems = defaultdict[tuple[str, str], list[str]](list), list[tuple[str, str, str]](), list[str]()
    for what, name in sorted({*old, *new}):
        lost, found = _without_common(old[what, name], new[what, name])
        label = f"{what} {name}".strip()
        problems += [f"{label} is changed"] * min(len(lost), len(found))
        for digest in lost[len(found) :]:
            gone[what, digest].append(name)
        added += [(what, name, digest) for digest in found[len(lost) :]]
    for what, name, digest in added:
        earlier = gone[what, digest]
        problems.append(f"{what} {name} was called {earlier.pop()}" if earlier else f"{what} {name} is new".replace("  ", " "))
    problems += [f"{what} {name} is missing".replace("  ", " ") for (what, _), names in gone.items() for name in names]
    if not problems and dict(before) != dict(after):
        return ["the photos or class images are in another order: files with the same name changed their folders"]
    return sorted(problems)


def _by_name(made_of: Mapping[str, str]) -> defaultdict[tuple[str, str], list[str]]:
    """(what, file name) to digests; inputs without a number have no file name."""
    found = defaultdict[tuple[str, str], list[str]](list)
    for key, digest in made_of.items():
        match = _NUMBERED.fullmatch(key)
        found[(match["what"], match["name"]) if match else (key, "")].append(digest)
    return found


def _without_common(one: list[str], other: list[str]) -> tuple[list[str], list[str]]:
    """Both lists without what they share."""
    first, second = list(one), list(other)
    for digest in one:
        if digest in second:
            first.remove(digest)
            second.remove(digest)
    return first, second
