"""`dreambooth plan`: how much memory training needs with each preset, and which one `auto` chooses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from dreambooth.data.photos import scan_photos
from dreambooth.data.records import Photo, Role
from dreambooth.data.size import Size
from dreambooth.display import Display, counted
from dreambooth.errors import SettingsError
from dreambooth.estimate.choice import USABLE, first_that_fits, possible_plan
from dreambooth.estimate.peak import WORKSPACE, MemoryEstimate, describe_estimate, estimate_memory, gib
from dreambooth.estimate.workload import Workload
from dreambooth.families.family import Family
from dreambooth.families.full_size import FULL_SIZE
from dreambooth.memory.plan import PRESETS
from dreambooth.memory.settings import MemoryPreset
from dreambooth.runtime.device import choose_device, describe_device
from dreambooth.runtime.free_memory import free_memory_bytes
from dreambooth.runtime.precision import has_bfloat16
from dreambooth.schema.verbs import PlanSettings
from dreambooth.trainees.parts import trained_parts, trainee_problems, what_learns
from dreambooth.trainer.photo_folders import photo_folder
from dreambooth.trainer.workload import buckets_of, without_idle_prior, workload_of
from dreambooth.weights.read import read_base
from dreambooth.weights.settings import PlannedModelSettings

__all__ = ["PlanResult", "plan_memory"]

_COMPONENTS = ("preset", "weights", "gradients", "states", "activations", "other", "peak", "fits")


@dataclass(frozen=True)
class PlanResult:
    """Predictions by preset, and the choice of `auto`."""

    estimates: Mapping[MemoryPreset, MemoryEstimate]
    """Without presets that contradict the given settings."""
    auto: MemoryPreset | None
    """None if a preset was named, none fits, or the choice contradicts the given settings."""
    free: int | None
    """Free bytes that were planned for; None if unknown."""


@dataclass(frozen=True)
class _Place:
    """Where training would happen."""

    title: str
    free: int | None
    device: torch.device | None
    """None for a GPU in another machine."""

    @property
    def is_gpu(self) -> bool:
        return self.device is None or self.device.type == "cuda"

    @property
    def has_bfloat16(self) -> bool:
        return self.device is None or has_bfloat16(self.device)

    def fits(self, preset: MemoryPreset, peak: int) -> str:
        """Yes or no; empty for a preset of another type of device, or if the free memory is unknown."""
        if self.free is None or (preset == "cpu") == self.is_gpu:
            return ""
        return "yes" if peak <= (USABLE * self.free if self.is_gpu else self.free) else "no"


def plan_memory(settings: PlanSettings, display: Display) -> PlanResult:
    """Show the predicted memory of each preset, or of the named one, by phase and component.

    Raises SettingsError when no preset works with the given settings, and ModelFileError when the model cannot be read.
    """
    settings = without_idle_prior(settings)
    place = _place(settings)
    family = _family(settings.base, display)
    if useless := trainee_problems(settings.trainee, family):
        raise SettingsError(useless)
    size = Size.square(settings.views.resolution or family.resolution)
    workload = workload_of(settings, size, buckets=buckets_of(_pictures(settings), size, settings.views, family.downsampling))
    named = settings.memory.memory_preset
    estimates, problems = _estimates(
        (*family.memory_presets, "cpu") if named == "auto" else (named,), settings, family, workload, place
    )
    if not estimates:
        raise SettingsError(list(dict.fromkeys(problems.values())))
    titles = " and ".join(family.parts[name].title for name in trained_parts(workload.trainee, family))
    trained = what_learns(workload.trainee, titles)
    display.say(f"{family.title}: {trained}, {counted(workload.num_examples, 'image')} of {workload.size} px per forward pass")
    if settings.views.crop == "bucket" and not settings.photos:
        display.say("No --photos given: planning for squares, the largest buckets.")
    display.table("Peak memory in GiB", _COMPONENTS, [_row(preset, one, place) for preset, one in estimates.items()])
    _show_phases(estimates, display)
    for preset, problem in problems.items():
        display.say(f"Skipped: {preset}: {problem}")
    display.say(
        f"'other' includes {gib(WORKSPACE)} GiB for library workspaces and fragmentation, an estimate that is not yet measured."
    )
    if named != "auto":
        fits = {"yes": "fits", "no": "does not fit", "": "is for another type of device, not for"}[
            place.fits(named, estimates[named].peak)
        ]
        display.say(f"{named} {fits} {place.title}. {describe_estimate(estimates[named], place.free)}")
        return PlanResult(estimates, None, place.free)
    auto = first_that_fits(settings.memory, family, workload, place.device, free=place.free) if place.is_gpu else "cpu"
    found, wrong = _estimates((auto,), settings, family, workload, place)
    if auto in wrong:
        display.say(f"On {place.title}: auto would choose {auto}, but {wrong[auto]}")
        return PlanResult(estimates, None, place.free)
    does_fit = place.fits(auto, found[auto].peak) != "no"
    _show_choice(auto, found[auto], place, display, does_fit=does_fit)
    if not does_fit:
        smallest = family.memory_presets[-1]
        display.say(f"To use the least memory: --memory-preset {smallest}{_levers_beside(smallest, workload)}")
    return PlanResult(estimates, auto if does_fit else None, place.free)


def _family(base: PlannedModelSettings, display: Display) -> Family:
    if base.model is None:
        family = FULL_SIZE[base.family]()
        display.say(f"No --model given: planning for a full-size {family.title}.")
        return family
    return read_base(base).family


def _pictures(settings: PlanSettings) -> Iterator[Photo]:
    """The photos and the given class images. Raises PhotoError with every problem of their files."""
    prior = settings.prior
    given = [folder for folder in (prior.prior_images, *prior.also_prior) if folder is not None] if settings.photos else []
    folders: list[tuple[Path, Role]] = [*((one, "instance") for one in settings.photos), *((one, "prior") for one in given)]
    for folder, role in folders:
        with TemporaryDirectory() as unpacked:
            report = scan_photos(photo_folder(folder, Path(unpacked)), role=role, resolution=1)
        report.raise_if_errors()
        yield from report.photos


def _place(settings: PlanSettings) -> _Place:
    if settings.gpu_memory is not None:
        return _Place(f"a GPU with {settings.gpu_memory:g} GiB free", round(settings.gpu_memory * 2**30), None)
    device = choose_device(settings.loop.device)
    return _Place(describe_device(device), free_memory_bytes(device), device)


def _estimates(
    presets: tuple[MemoryPreset, ...], settings: PlanSettings, family: Family, workload: Workload, place: _Place
) -> tuple[dict[MemoryPreset, MemoryEstimate], dict[MemoryPreset, str]]:
    """Predictions, and the problems of impossible presets."""
    estimates: dict[MemoryPreset, MemoryEstimate] = {}
    problems: dict[MemoryPreset, str] = {}
    for preset in presets:
        try:
            plan = possible_plan(preset, settings.memory, workload, has_bfloat16=place.has_bfloat16 or preset == "cpu")
        except SettingsError as error:
            problems[preset] = "; ".join(error.problems)
        else:
            estimates[preset] = estimate_memory(family, plan, workload)
    return estimates, problems


def _row(preset: MemoryPreset, estimate: MemoryEstimate, place: _Place) -> tuple[str, ...]:
    """The components of the peak; they add up to it."""
    use = estimate.largest.use
    other = use.average + use.scratch + use.workspace
    numbers = (use.weights, use.gradients, use.states, use.activations, other, estimate.peak)
    return (preset, *map(gib, numbers), place.fits(preset, estimate.peak))


def _show_phases(estimates: Mapping[MemoryPreset, MemoryEstimate], display: Display) -> None:
    names = [phase.name for phase in next(iter(estimates.values())).phases]
    rows = [(preset, *(gib(phase.use.total) for phase in one.phases), one.largest.name) for preset, one in estimates.items()]
    display.table("Peak of each phase in GiB", ("preset", *names, "largest"), rows)


def _levers_beside(preset: MemoryPreset, workload: Workload) -> str:
    """The flags that save the most memory beside those of a preset."""
    plan = PRESETS[preset]
    flags = {
        "--states-on-host": not plan.states_on_host and workload.optimizer == "adamw",
        "--stream-blocks": not plan.stream_blocks and not workload.needs_blocks_in_place,
    }
    return "".join(f" {flag}" for flag, saves in flags.items() if saves)


def _show_choice(preset: MemoryPreset, estimate: MemoryEstimate, place: _Place, display: Display, *, does_fit: bool) -> None:
    found = f"auto chooses {preset}" if does_fit else f"no preset fits; the smallest is {preset}"
    display.say(f"On {place.title}: {found}. {describe_estimate(estimate, place.free)}")
    if not place.is_gpu:
        display.say("To plan for a GPU in another machine: --gpu-memory GIB")
