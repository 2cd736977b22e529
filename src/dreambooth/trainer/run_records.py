"""Converts the settings and the results of preflight to the records that everything after preflight uses."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dreambooth.data.buckets import Buckets, bucket_sizes
from dreambooth.data.captions import named_subjects
from dreambooth.data.pictures import Pictures, shares_of
from dreambooth.data.size import Size
from dreambooth.display import counted
from dreambooth.estimate.choice import ChosenPlan
from dreambooth.estimate.workload import Workload
from dreambooth.evaluation.evaluator import Encoders
from dreambooth.memory.plan import PRESETS, describe_plan
from dreambooth.runs.folder import RunFolder
from dreambooth.runtime.compilation import describe_compilation
from dreambooth.runtime.device import describe_device
from dreambooth.runtime.processes import Processes
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainees.parts import learning_parts, what_learns
from dreambooth.trainer.assembly import TrainingSetup
from dreambooth.trainer.class_examples import replay_text
from dreambooth.trainer.disk_space import Stored
from dreambooth.trainer.due import Intervals
from dreambooth.trainer.messages import times_text
from dreambooth.trainer.preview_prompts import preview_prompts
from dreambooth.trainer.ready import Learned, Measured, Outputs, Previewed, Ready
from dreambooth.trainer.workload import levers_to_pull
from dreambooth.weights.lora_apply import applied_loras
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.subjects import LearnedSubject

__all__ = ["Found", "intervals_of", "records_of_run", "stored_of"]


@dataclass(frozen=True)
class Found:
    """The results of preflight."""

    run: RunFolder
    device: torch.device
    processes: Processes
    chosen: ChosenPlan
    base: ModelWeights
    pictures: Pictures
    encoders: Encoders | None
    size: Size
    """Size of the training images."""
    workload: Workload
    earlier: tuple[LearnedSubject, ...]
    """Subjects that the base model knows, besides the run's own."""
    disk_bytes: int
    """The run's peak disk usage."""


def records_of_run(settings: TrainSettings, found: Found) -> Ready:
    """The records of a run. The settings must have every choice filled in."""
    output, side = settings.output, found.size.shorter_side
    is_bucketed = settings.views.crop == "bucket"
    buckets = bucket_sizes(side, found.base.family.downsampling) if is_bucketed else Buckets(found.size)
    learned = Learned(
        photos=found.pictures.photos,
        given_priors=found.pictures.given_priors,
        subject=settings.subject,
        earlier=found.earlier,
        prior=settings.prior,
        views=settings.views,
        size=found.size,
        buckets=buckets,
        new_word=_new_word(settings, found),
    )
    prompts = preview_prompts(output, learned.subject, learned.prior, learned.photos)
    return Ready(
        run=found.run,
        device=found.device,
        processes=found.processes,
        base=found.base,
        learned=learned,
        setup=TrainingSetup(settings.trainee, settings.optimizer, settings.loop, found.chosen.plan, found.chosen.policy),
        intervals=intervals_of(settings, has_previews=bool(prompts)),
        previewed=Previewed(
            prompts=prompts,
            guidance_scale=output.preview_guidance_scale,
            num_logged_images=output.image_log_pictures,
        ),
        measured=Measured(settings.selection, found.encoders),
        outputs=Outputs(
            layout=output.file_layout,
            model_dtype=output.model_dtype,
            keep_checkpoints=output.keep_checkpoints,
            tensorboard=output.tensorboard,
            wandb=output.wandb,
            settings=settings,
        ),
        announcement=_announcement(settings, found, learned),
        memory_flags=levers_to_pull(settings, found.chosen.plan, found.workload),
        disk_bytes=found.disk_bytes,
    )


def _new_word(settings: TrainSettings, found: Found) -> str | None:
    """The token, if it becomes a word; preflight has checked that the photos show one subject."""
    if not settings.trainee.learns_word:
        return None
    (words,) = named_subjects((one.photo for one in found.pictures.photos), settings.subject)
    return words.token


def intervals_of(settings: TrainSettings, *, has_previews: bool = True) -> Intervals:
    """The intervals of a run, in steps; without a prompt there are no previews."""
    output = settings.output
    return Intervals(
        num_steps=settings.loop.steps,
        validation=output.validation_steps,
        scores=settings.selection.evaluate_every,
        previews=output.preview_steps if has_previews else 0,
        image_log=output.image_log_steps,
        models=output.steps_between_models,
        checkpoints=output.checkpoint_steps,
    )


def stored_of(settings: TrainSettings, *, num_trained: int, num_parameters: int) -> Stored:
    """What a run with `num_trained` trained parameters stores on disk."""
    return Stored(
        num_trained=num_trained,
        num_parameters=num_parameters,
        model_dtype=settings.output.model_dtype,
        keep_checkpoints=settings.output.keep_checkpoints,
        keeps_average=settings.loop.ema_decay is not None,
        has_states=settings.optimizer.optimizer != "adafactor",
    )


def _announcement(settings: TrainSettings, found: Found, learned: Learned) -> tuple[str, ...]:
    """Lines that tell what is trained, on which device, in which precision, on which photos, and for how long."""
    loop, plan = settings.loop, found.chosen.plan
    family = found.base.family
    titles = " and ".join(family.parts[name].title for name in learning_parts(settings.trainee, family))
    trained = what_learns(settings.trainee, titles)
    num_processes = found.processes.count
    lines = [
        f"{found.base.report.title} from {settings.base.model}: training {trained} on {describe_device(found.device)} "
        f"in {found.chosen.policy.name} at {learned.size} px"
        + (f", {num_processes} processes share each step" if num_processes > 1 else "")
        + (" and the weights" if plan.shard else "")
    ]
    lines += [*found.base.report.choices, *applied_loras(found.base)]
    if learned.buckets.others:
        sizes = learned.buckets.count(one.photo for one in learned.photos)
        texts = [f"{size} px ({counted(num, 'photo')})" for size, num in sizes.items()]
        lines.append(f"Buckets: {', '.join(texts)}")
    if plan != PRESETS["cpu"]:
        lines.append(f"Memory plan {settings.memory.memory_preset}: {describe_plan(plan)}")
    if found.device.type == "cuda" or loop.compile not in ("auto", "off"):
        lines.append(f"During training, {describe_compilation(loop.compile)}")
    if found.chosen.predicted is not None:
        lines.append(found.chosen.predicted)
    if found.earlier:
        lines.append(replay_text(found.earlier, settings.prior))
    photos = f"{counted(len(learned.photos), 'photo')} of {_subjects(learned)}, {counted(loop.steps, 'step')}"
    num_draws = loop.steps * loop.examples_per_step
    shares = shares_of([one.photo for one in learned.photos], learned.subject)
    if not shares:
        return (*lines, f"{photos}: each photo is seen {_seen(num_draws / len(learned.photos))}")
    of_all = num_draws / sum(share.weight for share in shares)
    each = (
        f"{one.token} {one.class_word} ({counted(share.num_photos, 'photo')}): each photo is seen "
        + _seen(of_all * share.weight / share.num_photos)
        for one, share in zip(learned.subject.subjects, shares, strict=True)
    )
    return (*lines, photos, *each)


def _seen(times: float) -> str:
    return "less than once" if times < 1 else f"about {times_text(round(times))}"


def _subjects(learned: Learned) -> str:
    named = named_subjects((one.photo for one in learned.photos), learned.subject)
    names = [f"'{words.token} {words.class_word}'".replace(" '", "'") for words in named]
    return names[0] if len(names) == 1 else f"{len(names)} subjects ({', '.join(names)})"
