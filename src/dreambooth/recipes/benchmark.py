"""`dreambooth benchmark`: the paper's protocol for every subject of a dataset, and one table of the results.

Each subject is a separate job with its own folder: if a worker is lost, only the step it was working on is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dreambooth.config import parse_settings
from dreambooth.data.photos import scan_photos
from dreambooth.data.problems import raise_if_errors
from dreambooth.display import Display, counted, quoted
from dreambooth.errors import Interrupted, PhotoError, RunError, SettingsError
from dreambooth.evaluation.benchmark_table import SUMMARY_TITLES, as_markdown, benchmark_record, summary_rows
from dreambooth.evaluation.choose_encoders import choose_encoders
from dreambooth.evaluation.dataset import BenchmarkSubject, chosen, read_dataset, toybox_dataset
from dreambooth.evaluation.prompt_sets import with_guidance_scale
from dreambooth.files import expanded, write_json, write_text
from dreambooth.measures.settings import BenchmarkSettings, EvaluationSettings
from dreambooth.recipes.benchmark_subject import (
    SubjectJob,
    benchmark_subject,
    photos_that_changed,
    read_scores,
    remove_checkpoints,
)
from dreambooth.recipes.toybox import write_photos
from dreambooth.runs.lock import exclusive
from dreambooth.runs.remembered import check_remembered
from dreambooth.runtime.device import choose_device
from dreambooth.runtime.interrupts import Interrupts
from dreambooth.runtime.workers import InThisProcess, Outcome, OverRay, Workers, has_ray
from dreambooth.schema.layers import laid_over
from dreambooth.schema.presets import read_preset
from dreambooth.schema.verbs import TrainSettings
from dreambooth.toybox.files import EMBEDDED_MODEL
from dreambooth.weights.bundled import draws_toybox
from dreambooth.weights.read import is_embedded, read_base

__all__ = ["BenchmarkResult", "benchmark"]

_PAPER: Mapping[str, Mapping[str, Any]] = {
    "subject": {"instance_prompt": "a {token} {class_word}"},
    "prior": {"class_prompt": "a {class_word}", "num_prior_images": 200},
    "optimizer": {"learning_rate": 5e-6},
    "loop": {"steps": 1000},
    "output": {"checkpoint_steps": 250},
}
"""The paper's settings for Stable Diffusion; for class images it says about 1000, "but less can be used"."""

_UNWATCHED: Mapping[str, Any] = {"preview_steps": 0, "validation_steps": 0, "model_steps": 0, "keep_checkpoints": 1}
_QUICK_STEPS, _QUICK_CLASS_IMAGES = 100, 16
_QUICK_EVALUATION = {"num_images": 2, "num_class_images": 4, "sampling_steps": 15}
_DECIDES_NOTHING = {
    "base": ("model",),  # its digest does
    "subject": ("photos", "class_word"),
    "prior": ("prior_folder",),
    "loop": ("device",),
    "output": ("output",),
    "evaluation": ("batch_size",),
}
"""Settings that differ between subjects, or that affect only paths and speed."""


@dataclass(frozen=True)
class BenchmarkResult:
    """The scores of a benchmark, and the file with their table."""

    record: Mapping[str, Any]
    table: Path


def benchmark(settings: BenchmarkSettings, display: Display) -> BenchmarkResult:
    """Train on every subject, generate its prompts and score them; writes `benchmark.json` and `benchmark.md`.

    Raises SettingsError with every problem before any work starts; RunError at the end if subjects failed, after the others
    are done and their table is written; Interrupted when the user stopped it.
    """
    settings = settings.model_copy(update={"output": expanded(settings.output).absolute()})
    output, stopped = settings.output, "Stopped. Finished work is kept; run the same command to resume."
    with Interrupts(lambda: stopped), ExitStack() as stack:
        jobs, asked = _jobs(settings)
        stack.enter_context(exclusive(output))
        is_new = _begin(settings, jobs, asked)
        left = [name for name, job in jobs.items() if read_scores(job) is None]
        for name in jobs.keys() - left:
            remove_checkpoints(jobs[name])  # it may have been killed while it did so
        display.say(f"Benchmark of {counted(len(jobs), 'subject')} in {output}: {len(left)} to do")
        failed: list[Outcome] = []
        workers = _workers(settings, len(left), display)
        try:
            with closing(workers.outcomes(benchmark_subject, {name: jobs[name] for name in left})) as outcomes:
                for outcome in outcomes:
                    failed += [outcome] if outcome.error is not None else []
                    _tell(outcome, jobs[outcome.name], display)
                    _write_table(jobs, asked, output)
        except Interrupted as stop:
            raise Interrupted(stopped, exit_code=stop.exit_code) from stop
        except SettingsError:  # Ray is not available: nothing has started, so other settings may use the folder
            if is_new:
                _asked_file(output).unlink()
            raise
        record = _write_table(jobs, asked, output)
        if record is not None:
            display.table(f"Mean of {counted(len(record['subjects']), 'subject')}", SUMMARY_TITLES, summary_rows(record))
            display.say("Scores from different encoders are not comparable; the table names the encoders used here.")
            display.say(f"Wrote {output / 'benchmark.json'} and {output / 'benchmark.md'}")
    if failed or record is None:
        done = f"{len(jobs) - len(failed)} of {counted(len(jobs), 'subject')} done"
        raise RunError(
            [f"{one.name}: {one.error}" for one in failed], hint=f"{done}. Run the same command to retry only the others."
        )
    return BenchmarkResult(record, output / "benchmark.md")


def _jobs(settings: BenchmarkSettings) -> tuple[dict[str, SubjectJob], dict[str, Any]]:
    """A job per subject by name, and the settings that decide the scores; everything is checked."""
    subjects = _subjects(settings)
    photos = _digests(settings, subjects)
    trainings = {one.name: _training(settings, one) for one in subjects}
    training = next(iter(trainings.values()))
    choose_device(settings.device)
    base = read_base(training.base)
    side = training.views.resolution or base.family.resolution
    is_toybox = draws_toybox(base.made_for(side))
    evaluation = _evaluation(settings, is_toybox=is_toybox)
    # a missing encoder is reported before training on the first subject
    features = settings.output / "features"
    choose_encoders(evaluation, side=side, is_toybox=is_toybox, device=torch.device("cpu"), cache=features)
    asked = {
        "dataset": EMBEDDED_MODEL if is_embedded(settings.dataset) else "DreamBooth",
        "base model": base.digest(),
        "training": _deciding(training.model_dump(mode="json")),
        "evaluation": _deciding({"evaluation": evaluation.model_dump(mode="json")})["evaluation"],
    }
    jobs = {
        one.name: SubjectJob(
            subject=one,
            folder=_folder(settings, one.name),
            shared=settings.output / "class-before",
            training=trainings[one.name],
            evaluation=evaluation,
            photos=photos[one.name],
        )
        for one in subjects
    }
    return jobs, asked


def _begin(settings: BenchmarkSettings, jobs: Mapping[str, SubjectJob], asked: Mapping[str, Any]) -> bool:
    """Claim the output folder for these settings, since finished work in it is reused; returns whether it is new.

    Raises SettingsError when the folder holds a benchmark with other settings, PhotoError when the photos differ; both list
    every difference.
    """
    path = _asked_file(settings.output)
    is_new = not path.exists()
    _check_photos(jobs)
    check_remembered(path, asked, hint="Choose another --output to start over.")
    for name, job in jobs.items():
        if is_embedded(settings.dataset):
            write_photos(name, job.subject.photos)
        else:
            write_json(job.photos_file, dict(job.photos))
    return is_new


def _check_photos(jobs: Mapping[str, SubjectJob]) -> None:
    hint = "Restore the original photos, choose another --output, or remove {} to start over."
    found = {
        name: problems
        for name, job in jobs.items()
        if (problems := photos_that_changed(job, hint=hint.format(quoted(job.folder))))
    }
    if found:
        folders = " and ".join(quoted(jobs[name].folder) for name in found)
        raise PhotoError([problem for problems in found.values() for problem in problems], hint=hint.format(folders))


def _asked_file(output: Path) -> Path:
    return output / "asked.json"


def _deciding(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        section: {name: value for name, value in below.items() if name not in _DECIDES_NOTHING.get(section, ())}
        for section, below in values.items()
    }


def _folder(settings: BenchmarkSettings, name: str) -> Path:
    return settings.output / "subjects" / name


def _subjects(settings: BenchmarkSettings) -> tuple[BenchmarkSubject, ...]:
    """The selected subjects. Raises SettingsError with every problem."""
    if is_embedded(settings.dataset):
        return chosen(toybox_dataset(settings.output / "photos"), settings.subjects)
    return read_dataset(expanded(Path(settings.dataset)).absolute(), settings.subjects)


def _digests(settings: BenchmarkSettings, subjects: Iterable[BenchmarkSubject]) -> dict[str, dict[str, str]]:
    """Name to SHA-256 of each subject's photos; empty for rendered subjects.

    Every photo is decoded. Raises PhotoError with every problem.
    """
    if is_embedded(settings.dataset):
        return {one.name: {} for one in subjects}
    reports = {one: scan_photos(one.photos, role="instance", resolution=1) for one in subjects}
    raise_if_errors([problem for report in reports.values() for problem in report.errors])
    return {
        one.name: {photo.path.relative_to(one.photos).as_posix(): photo.digest for photo in report.photos}
        for one, report in reports.items()
    }


def _training(settings: BenchmarkSettings, subject: BenchmarkSubject) -> TrainSettings:
    """The paper's settings, overridden by the preset's, overridden by this command's."""
    below = read_preset("toybox")[1] if is_embedded(settings.dataset) else _PAPER
    layers = [below, {"prior": {"prior_folder": settings.output / "class-images"}}]
    if settings.preset is not None:
        layers.append(read_preset(settings.preset, argument="preset")[1])
    if settings.quick:
        layers.append({"loop": {"steps": _QUICK_STEPS}, "prior": {"num_prior_images": _QUICK_CLASS_IMAGES}})
    asked: dict[str, dict[str, Any]] = {
        "subject": {"photos": subject.photos, "class_word": subject.class_word},
        "output": {**_UNWATCHED, "output": _folder(settings, subject.name) / "run"},
    }
    if settings.model is not None:
        asked["base"] = {"model": _as_seen_from_elsewhere(settings.model)}
    loop = {"steps": settings.steps, "device": settings.device}
    asked["loop"] = {name: value for name, value in loop.items() if value is not None}
    values: dict[str, Any] = {}
    for layer in (*layers, asked):
        values = laid_over(TrainSettings, values, layer, where=f"preset {settings.preset}")
    if "model" not in values.get("base", {}):
        raise SettingsError("model is missing", hint="Name the base model: --model sd-v1-4.ckpt")
    return parse_settings(TrainSettings, values, where=f"benchmark of {subject.name}")


def _as_seen_from_elsewhere(model: str) -> str:
    """Paths made absolute, since workers may run in another folder; other names unchanged."""
    path = expanded(Path(model))
    return str(path.absolute()) if path.exists() and not is_embedded(model) else model


def _evaluation(settings: BenchmarkSettings, *, is_toybox: bool) -> EvaluationSettings:
    """The evaluation settings with the values filled in that depend on the model and on `quick`."""
    asked = settings.evaluation
    less = {name: value for name, value in _QUICK_EVALUATION.items() if settings.quick and not asked.is_changed(name)}
    return with_guidance_scale(asked, is_toybox=is_toybox).model_copy(update=less)


def _workers(settings: BenchmarkSettings, num_jobs: int, display: Display) -> Workers:
    """Ray if requested or if several GPUs have work; otherwise this process."""
    if settings.ray is not None:
        return OverRay(settings.ray, needs_gpu=settings.device is None or settings.device == "cuda")
    num_devices = torch.cuda.device_count() if settings.device is None else 1
    if min(num_devices, num_jobs) < 2:
        return InThisProcess()
    if not has_ray():
        display.warn(f"Using one of {num_devices} GPUs. To use all of them, install Ray: pip install 'dreambooth[ray]'")
        return InThisProcess()
    return OverRay(None)


def _tell(outcome: Outcome, job: SubjectJob, display: Display) -> None:
    if outcome.error is None:
        display.say(f"{outcome.name}: done")
        return
    display.warn(f"{outcome.name}: {outcome.error}")
    if outcome.traceback is not None:
        write_text(job.folder / "error.txt", outcome.traceback)


def _write_table(jobs: Mapping[str, SubjectJob], asked: Mapping[str, Any], output: Path) -> dict[str, Any] | None:
    """Write the scores of the finished subjects; None, and no file, if there are none."""
    found = {name: scores for name, job in jobs.items() if (scores := read_scores(job)) is not None}
    if not found:
        return None
    record = benchmark_record(found, asked)
    write_json(output / "benchmark.json", record)
    write_text(output / "benchmark.md", as_markdown(record))
    return record
