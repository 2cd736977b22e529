"""Everything that can be checked before the first minute of GPU time, with all problems reported together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from dreambooth.data.captions import named_subjects
from dreambooth.data.drawing import PerRole, num_entries
from dreambooth.data.folder_layouts import crop_warnings, layout_warnings
from dreambooth.data.pictures import Pictures, check_apart, find_pictures, same_picture_warnings, unseen_warnings
from dreambooth.data.prior_prompts import class_prompts
from dreambooth.data.problems import raise_if_errors
from dreambooth.data.settings import SubjectSettings
from dreambooth.data.size import Size
from dreambooth.display import Display, quoted
from dreambooth.errors import RunError, SettingsError
from dreambooth.estimate.choice import ChosenPlan, choose_plan
from dreambooth.estimate.workload import Workload
from dreambooth.families.family import Family
from dreambooth.families.tokens import describe_token
from dreambooth.files import is_leftover
from dreambooth.memory.plan import MemoryPlan
from dreambooth.runs.boards import check_boards
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.lock import LOCK_NAME
from dreambooth.runs.model_names import ModelNames, model_names
from dreambooth.runs.untrained import is_untrained
from dreambooth.runtime.free_memory import free_memory_bytes
from dreambooth.runtime.processes import Processes
from dreambooth.runtime.tensor_files import STORAGE_DTYPES
from dreambooth.sampling.prompts import cut_warnings, syntax_warnings
from dreambooth.sampling.sampler import check_size
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainees.parts import learning_parts, trainee_problems
from dreambooth.trainees.settings import TraineeSettings
from dreambooth.trainer.base_words import check_no_word
from dreambooth.trainer.caption_checks import caption_warnings, check_token_is_said
from dreambooth.trainer.class_examples import (
    earlier_subjects,
    num_class_examples,
    own_subjects,
    prior_target,
    replayed,
    same_token_warnings,
)
from dreambooth.trainer.disk_space import check_disk_space, run_bytes
from dreambooth.trainer.new_word import check_earlier_subjects, check_new_word
from dreambooth.trainer.preflight_tables import show_captions, show_warnings
from dreambooth.trainer.problems import Problems
from dreambooth.trainer.process_checks import check_all_have_work, check_can_shard
from dreambooth.trainer.ready import Ready
from dreambooth.trainer.run_records import Found, intervals_of, records_of_run, stored_of
from dreambooth.trainer.scoring_checks import check_can_score, encoders_of_run
from dreambooth.trainer.workload import buckets_of, without_idle_prior, workload_of
from dreambooth.training.base_predictions import prediction_bytes
from dreambooth.weights.distilled import check_not_distilled
from dreambooth.weights.embedding_file import num_vector_parameters
from dreambooth.weights.lora_choice import absolute_lora
from dreambooth.weights.lora_keys import num_lora_parameters
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import is_embedded, read_base
from dreambooth.weights.subjects import LearnedSubject, learned_subjects
from dreambooth.weights.write import check_range

__all__ = ["check_everything", "least_free_memory"]

_SMALLEST_EMBEDDED_RATE = 1e-5
_LARGE_FOR_CPU = 100_000_000  # parameters; the bundled model has a few million


def check_everything(
    settings: TrainSettings, display: Display, processes: Processes, *, least_free: int | None = None, is_resume: bool
) -> Ready:
    """Check every input of a run and show a table of the images' problems.

    `least_free` is the result of `least_free_memory`. Raises one DreamboothError with every problem.
    """
    settings = _with_useful_prior(settings, display)
    problems, run = Problems(), RunFolder(settings.output.output)
    device = problems.attempt(lambda: processes.device(settings.loop.device))
    memory, loop, optimizer, prior = settings.memory, settings.loop, settings.optimizer, settings.prior
    problems.attempt(lambda: check_all_have_work(processes, loop=loop, prior=prior))
    problems.attempt(lambda: check_can_shard(processes, memory=memory, loop=loop, optimizer=optimizer, prior=prior))
    if not is_resume:
        _check_folders(settings, problems)
    problems.attempt(lambda: check_boards(tensorboard=settings.output.tensorboard, wandb=settings.output.wandb))
    base = problems.attempt(lambda: _read_base(settings))
    resolution = settings.views.resolution or (base.family.resolution if base is not None else 512)
    size = Size.square(resolution)
    pictures = find_pictures(settings.subject, settings.prior, resolution=resolution, views=settings.views)
    show_warnings(pictures.problems, display)
    workload = _workload(settings, pictures, size, base, num_processes=processes.count)

    def choose() -> ChosenPlan:
        assert device is not None
        free, family = least_free or free_memory_bytes(device), base.family if base is not None else None
        return choose_plan(settings.memory, device, family, workload, free=free, is_resume=is_resume)

    chosen = None if device is None else problems.attempt(choose)
    disk_bytes = None
    if base is not None and chosen is not None:
        disk_bytes = problems.attempt(lambda: _check_disk(settings, chosen.plan, base, run, size))
    _check_pictures(pictures, settings, problems, is_resume=is_resume)
    trained = None if base is None or not processes.is_main else base.made_for(resolution)
    encoders = None if trained is None else problems.attempt(lambda: encoders_of_run(settings.selection, run, trained))
    problems.attempt(lambda: check_size(base.family.downsampling if base else 8, height=size.height, width=size.width))
    problems.raise_if_any()
    assert device is not None and chosen is not None and base is not None and disk_bytes is not None
    earlier = earlier_subjects(base, pictures, settings.subject)
    check_earlier_subjects(replayed(earlier, settings.prior), own_subjects(pictures.photos, settings.subject), settings.trainee)
    num_pictures = _num_pictures(settings, pictures, earlier)
    ready = records_of_run(
        _filled_in(settings, chosen, resolution, earlier),
        Found(
            run=RunFolder(run.path, _model_names(settings, num_pictures)),
            device=device,
            processes=processes,
            chosen=chosen,
            base=base,
            pictures=pictures,
            encoders=encoders,
            size=size,
            workload=workload,
            earlier=earlier,
            disk_bytes=disk_bytes,
        ),
    )
    warnings = _warnings(settings, pictures, ready, num_pictures, is_resume=is_resume)
    _show(pictures, (*base.report.all_warnings, *chosen.warnings, *warnings), settings, display)
    return ready


def _with_useful_prior(settings: TrainSettings, display: Display) -> TrainSettings:
    useful = without_idle_prior(settings)
    if useful.prior.prior_weight != settings.prior.prior_weight:
        display.say("No class images: their captions do not say the new word, so they would change nothing.")
    return useful


def _show(pictures: Pictures, warnings: Sequence[str], settings: TrainSettings, display: Display) -> None:
    if settings.subject.captions == "filename":
        show_captions(pictures, display)
    for warning in dict.fromkeys(warnings):
        display.warn(warning)


def _workload(
    settings: TrainSettings, pictures: Pictures, size: Size, base: ModelWeights | None, *, num_processes: int
) -> Workload:
    learned = [one.photo for one in (*pictures.photos, *pictures.given_priors)]
    return workload_of(
        settings,
        size,
        buckets=() if base is None else buckets_of(learned, size, settings.views, base.family.downsampling),
        num_processes=num_processes,
        knows_subjects=base is not None and bool(learned_subjects(base)),
    )


def _read_base(settings: TrainSettings) -> ModelWeights:
    given = settings.base
    base = read_base(given)
    check_not_distilled(given.model, base)
    if problems := trainee_problems(settings.trainee, base.family):
        raise SettingsError(problems)
    check_no_word(given, base)
    if not settings.trainee.keeps_base:
        check_range(base, STORAGE_DTYPES[settings.output.model_dtype])
    return base


def _check_folders(settings: TrainSettings, problems: Problems) -> None:
    output, made = settings.output.output, settings.prior.prior_folder
    problems.attempt(lambda: _check_output_is_free(output))
    for photos in (one.photos for one in settings.subject.each()):
        problems.attempt(partial(check_apart, output, photos))
        if made is not None:
            problems.attempt(partial(check_apart, made, photos, name="prior_folder"))


def _check_pictures(pictures: Pictures, settings: TrainSettings, problems: Problems, *, is_resume: bool) -> None:
    problems.attempt(lambda: raise_if_errors(pictures.problems))
    problems.attempt(lambda: class_prompts(settings.prior))
    problems.attempt(lambda: check_new_word(pictures, settings.subject, settings.trainee, settings.prior))
    if not is_resume:
        problems.attempt(lambda: check_token_is_said(pictures, settings.subject))
    num_steps, is_sharded = settings.loop.steps, bool(settings.memory.shard)
    problems.attempt(lambda: check_can_score(settings.selection, num_steps=num_steps, is_sharded=is_sharded))


def _model_names(settings: TrainSettings, num_pictures: PerRole) -> ModelNames:
    """The names of the run's models; the original programs' names count epochs of photos and class images."""
    output, loop = settings.output, settings.loop
    return model_names(
        output.file_layout,
        num_entries=num_entries(num_pictures, PerRole(settings.prior.photo_repeats, settings.prior.prior_repeats)),
        examples_per_step=loop.examples_per_step,
        model_steps=math.gcd(output.steps_between_models or loop.steps, settings.selection.evaluate_every),
    )


def _num_pictures(settings: TrainSettings, pictures: Pictures, earlier: Sequence[LearnedSubject]) -> PerRole:
    """Number of photos and class examples of a run, including class images still to generate."""
    num_replayed = len(replayed(earlier, settings.prior))
    num_priors = num_class_examples(pictures, settings.prior, settings.subject, num_replayed=num_replayed)
    return PerRole(len(pictures.photos), num_priors)


def least_free_memory(settings: TrainSettings, processes: Processes) -> int | None:
    """Free bytes that every process has on its device, so that all choose the same plan; None for a single process.

    All processes must call this together, before anything that only one of them does.
    """
    if processes.count == 1:
        return None
    free = free_memory_bytes(processes.device(settings.loop.device))
    return None if free is None else int(processes.gather(torch.tensor([free])).min())


def _warnings(
    settings: TrainSettings, pictures: Pictures, ready: Ready, num_pictures: PerRole, *, is_resume: bool
) -> list[str]:
    """Warnings about settings that work but were probably not intended."""
    named = named_subjects((one.photo for one in pictures.photos), settings.subject)
    tokenizer = ready.tokenizer
    return [
        *(warning for words in named for warning in _token_warnings(words.token, settings)),
        *_slow_warnings(ready.base, ready.device),
        *same_picture_warnings(pictures),
        *layout_warnings(pictures, settings.subject, settings.prior),
        *crop_warnings(pictures, settings.views),
        *unseen_warnings(settings.prior, num_pictures),
        *same_token_warnings(ready.learned.earlier, own_subjects(pictures.photos, settings.subject)),
        *([] if is_resume else _rate_warnings(settings)),
        *caption_warnings(pictures, settings.subject, settings.prior, tokenizer),
        *syntax_warnings((*ready.previewed.prompts, *(caption for one in pictures.photos for caption in one.captions))),
        *cut_warnings(tokenizer, ready.previewed.prompts),
    ]


def _token_warnings(token: str, settings: TrainSettings) -> Sequence[str]:
    """The drawback of the default token is in the documentation, and not repeated in every run."""
    subject = settings.subject
    is_default = subject.captions == "prompt" and not subject.is_changed("token") and token == subject.token
    is_new = settings.trainee.learns_word  # then the word has no meaning before, and any number of tokens
    return () if is_default or is_new else describe_token(token).warnings


def _slow_warnings(base: ModelWeights, device: torch.device) -> list[str]:
    """A full-size model needs several 10**12 operations per step, of which a CPU does some 10**11 per second."""
    num_parameters = sum(tensor.numel() for part in base.parts.values() for tensor in part.values())
    if device.type != "cpu" or num_parameters < _LARGE_FOR_CPU:
        return []
    return [
        f"training a model of {num_parameters / 1e6:.0f} million parameters on the CPU takes many seconds per step and hours "
        "in all, class images included; a GPU takes minutes"
    ]


def _learning_rate(settings: TrainSettings) -> float:
    rate = settings.optimizer.learning_rate
    return settings.trainee.usual_learning_rate if rate is None else rate


def _rate_warnings(settings: TrainSettings) -> list[str]:
    """The bundled model learns nothing at a learning rate that suits a full-size one."""
    rate = _learning_rate(settings)
    if not is_embedded(settings.base.model) or rate > _SMALLEST_EMBEDDED_RATE:
        return []
    return [f"the bundled model (toybox) is small and learns almost nothing at learning rate {rate:g}: use --preset toybox"]


def _check_output_is_free(folder: Path) -> None:
    others = [one for one in folder.iterdir() if one.name != LOCK_NAME and not is_leftover(one)] if folder.is_dir() else []
    if others and not is_untrained(RunFolder(folder)):
        is_run = RunFolder(folder).config.exists()
        raise RunError(
            f"{folder}: already holds {'a run' if is_run else 'other files'}",
            hint=f"Continue it with: dreambooth train --resume {quoted(folder)}" if is_run else "Choose another --output.",
        )
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: expected a folder, found a file", hint="Choose another --output.")


def _check_disk(settings: TrainSettings, plan: MemoryPlan, base: ModelWeights, run: RunFolder, size: Size) -> int:
    counts = {name: sum(tensor.numel() for tensor in part.values()) for name, part in base.parts.items()}
    trained = written = _num_beside(base.family, settings.trainee)
    if not settings.trainee.keeps_base:
        trained += sum(counts[name] for name in learning_parts(settings.trainee, base.family))
        written += sum(counts.values())
    stored = stored_of(settings, num_trained=trained, num_parameters=written)
    needed = run_bytes(stored, intervals_of(settings), plan)
    if (
        settings.prior.prior_target != "noise" and not settings.trainee.keeps_base
    ):  # what the default is depends on the base model
        needed += prediction_bytes(settings.loop.steps * settings.loop.examples_per_step, base.family, size)
    check_disk_space(run.path, needed)
    return needed


def _num_beside(family: Family, trainee: TraineeSettings) -> int:
    """Numbers that are learned beside a model: matrices, and the vectors of a word."""
    vectors = num_vector_parameters(family, trainee.embedding_vectors) if trainee.learns_word else 0
    return vectors + (num_lora_parameters(family, trainee) if trainee.trainee == "lora" else 0)


def _filled_in(
    settings: TrainSettings, chosen: ChosenPlan, resolution: int, earlier: Sequence[LearnedSubject]
) -> TrainSettings:
    """The settings with automatic choices filled in and paths made absolute, so that they repeat the run anywhere."""
    base, prior = settings.base, settings.prior
    is_path = Path(base.model).exists() and not is_embedded(base.model)
    model = str(Path(base.model).absolute()) if is_path else base.model
    folders: dict[str, object] = {
        "prior_images": None if prior.prior_images is None else prior.prior_images.absolute(),
        "also_prior": tuple(folder.absolute() for folder in prior.also_prior),
    }
    if prior.prior_weight > 0:
        folders["prior_target"] = prior_target(prior, earlier)
    if prior.num_made or replayed(earlier, prior):
        folders["prior_folder"] = (prior.prior_folder or settings.output.output.parent / "class-images").absolute()
    return settings.model_copy(
        update={
            "base": base.model_copy(
                update={
                    "model": model,
                    "config": base.config and base.config.absolute(),
                    "lora": tuple(map(absolute_lora, base.lora)),
                }
            ),
            "subject": _with_absolute_photos(settings.subject),
            "views": settings.views.model_copy(update={"resolution": resolution}),
            "prior": prior.model_copy(update=folders),
            "trainee": _with_first_words(settings.trainee, settings.subject),
            "optimizer": settings.optimizer.model_copy(update={"learning_rate": _learning_rate(settings)}),
            "memory": settings.memory.model_copy(update={"memory_preset": chosen.preset, "precision": chosen.policy.name}),
        }
    )


def _with_absolute_photos(subject: SubjectSettings) -> SubjectSettings:
    subjects = tuple(
        one.model_copy(
            update={"photos": one.photos.absolute(), "prior_images": one.prior_images and one.prior_images.absolute()}
        )
        for one in subject.subjects
    )
    return subject.model_copy(update={"photos": subject.photos.absolute(), "subjects": subjects})


def _with_first_words(trainee: TraineeSettings, subject: SubjectSettings) -> TraineeSettings:
    """A new word starts from the class word, unless other words are given."""
    if trainee.trainee != "embedding" or trainee.embedding_words is not None:
        return trainee
    return trainee.model_copy(update={"embedding_words": subject.class_word})
