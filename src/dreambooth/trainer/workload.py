"""The memory workload of a run's settings, and the flags that would reduce it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import TypeVar

from dreambooth.config import parse_settings
from dreambooth.data.buckets import bucket_sizes
from dreambooth.data.records import Photo
from dreambooth.data.settings import PriorSettings, ViewSettings
from dreambooth.data.size import Size
from dreambooth.errors import SettingsError
from dreambooth.estimate.choice import possible_plan
from dreambooth.estimate.traces import Sampling
from dreambooth.estimate.workload import Workload
from dreambooth.memory.plan import MemoryPlan, levers_left
from dreambooth.schema.verbs import PlanSettings, TrainSettings

__all__ = ["buckets_of", "levers_to_pull", "without_idle_prior", "workload_of"]

AnySettings = TypeVar("AnySettings", TrainSettings, PlanSettings)


def workload_of(
    settings: TrainSettings | PlanSettings,
    size: Size,
    *,
    buckets: Collection[Size] = (),
    num_processes: int = 1,
    knows_subjects: bool = False,
) -> Workload:
    """The memory workload of each process of a run.

    `size` is that of the training images if they are squares, and of previews; `buckets` are the sizes of the training images
    as far as they are known, see `buckets_of`. `knows_subjects` says whether the base model learned subjects before, whose
    images are then generated.
    """
    prior, loop, output = settings.prior, settings.loop, settings.output
    makes_previews = output.preview_steps > 0 and bool(output.preview_prompts)
    is_scored = settings.selection.evaluate_every > 0  # its images need as much memory as guided previews
    generates = prior.num_made > 0 or (knows_subjects and prior.keeps_earlier)
    num_roles = 1 if prior.prior_weight == 0 else 2
    share = math.ceil(loop.examples_per_step * num_roles / num_processes)
    num_examples = min(loop.batch_size * num_roles, share)
    return Workload(
        size=max(buckets, key=lambda bucket: bucket.height * bucket.width, default=size),
        num_examples=num_examples,
        gradient_accumulation=math.ceil(share / num_examples),
        trainee=settings.trainee,
        keeps_average=loop.ema_decay is not None,
        optimizer=settings.optimizer.optimizer,
        class_images=Sampling(prior.prior_batch_size, prior.prior_guidance_scale != 1) if generates else None,
        previews=Sampling(1, is_scored or output.preview_guidance_scale != 1) if makes_previews or is_scored else None,
        num_processes=num_processes,
        square=size if buckets else None,
        has_buckets=settings.views.crop == "bucket" and len(buckets) != 1,
        is_compiled=loop.compile in ("blocks", "full"),
    )


def buckets_of(pictures: Iterable[Photo], size: Size, views: ViewSettings, downsampling: int) -> tuple[Size, ...]:
    """The sizes that occur with `--crop bucket`: those of the photos, and of class images from a folder.

    Generated class images have sizes of the photos. Empty for every other crop.
    """
    if views.crop != "bucket":
        return ()
    return tuple(bucket_sizes(size.shorter_side, downsampling).count(pictures))


def without_idle_prior(settings: AnySettings) -> AnySettings:
    """The settings without class images where these change nothing: none of their captions says the new word."""
    if settings.trainee.trainee != "embedding":
        return settings
    return settings.model_copy(update={"prior": PriorSettings(prior_weight=0)})


def levers_to_pull(settings: TrainSettings, plan: MemoryPlan, workload: Workload) -> tuple[str, ...]:
    """Flags with which a run under `plan` can be resumed to need less memory for the same results."""
    return tuple(flag for flag in levers_left(plan) if _can_be_pulled(flag, settings, workload))


def _can_be_pulled(flag: str, settings: TrainSettings, workload: Workload) -> bool:
    name, _, value = flag.removeprefix("--").replace("-", "_").partition(" ")
    values = settings.model_dump(mode="json")
    values["memory"][name] = value or True
    try:
        changed = parse_settings(TrainSettings, values, where="command line").memory
        possible_plan(changed.memory_preset, changed, workload, has_bfloat16=True)
    except SettingsError:
        return False
    return True
