"""What a benchmark asks of each subject, what it leaves alone the next time, and what becomes of subjects that fail.

Training, pictures and encoders are stand-ins here.
"""

from __future__ import annotations

import json
import pickle
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from dreambooth.display import Display
from dreambooth.display_console import ConsoleDisplay
from dreambooth.display_silent import SilentDisplay
from dreambooth.errors import Interrupted, ModelFileError, PhotoError, RunError, SettingsError
from dreambooth.evaluation.evaluator import Measured, PromptSet
from dreambooth.measures.intervals import Score
from dreambooth.measures.settings import BenchmarkSettings
from dreambooth.recipes import benchmark as recipe
from dreambooth.recipes import benchmark_subject as jobs
from dreambooth.recipes.benchmark import benchmark
from dreambooth.recipes.benchmark_subject import SubjectJob, benchmark_subject
from dreambooth.recipes.train import TrainResult
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.lock import exclusive
from dreambooth.runs.status import recorded_status
from dreambooth.runtime.workers import InThisProcess, OverRay
from dreambooth.sampling.records import Picture
from dreambooth.schema.verbs import TrainSettings

PROMPTS = Path(__file__).parents[2] / "data" / "prompts_and_classes.txt"
NAMES = ["zigzag-mug", "marked-ball", "belted-vase"]
MEANS = {"zigzag-mug": 0.5, "marked-ball": 0.7, "belted-vase": 0.6}


class World:
    """Stands in for training, sampling and measuring, and keeps what it was asked."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.trained: list[TrainSettings] = []
        self.resumed: list[Path] = []
        self.pictures: dict[str, list[Picture]] = {}
        self.evaluators: list[Any] = []
        self.fail: dict[str, Exception] = {}

    def train(self, settings: TrainSettings, display: Display) -> TrainResult:
        self.trained.append(settings)
        run = settings.output.output
        (run / "checkpoints" / "step-000001").mkdir(parents=True)
        (run / "config.yaml").touch()
        return self._end(run)

    def resume(self, run: Path, changes: dict[str, Any], display: Display) -> TrainResult:
        self.resumed.append(run)
        return self._end(run)

    def _end(self, run: Path) -> TrainResult:
        if (error := self.fail.pop(run.parent.name, None)) is not None:
            raise error
        (run / "model.safetensors").touch()
        return TrainResult(run, run / "model.safetensors", 1)

    def sample_cache(self, folder: Path, model: Any, name: str, sample: Any, device: torch.device) -> Any:
        def make(pictures: list[Picture], display: Display) -> list[Tensor]:
            self.pictures.setdefault(str(folder.relative_to(self.output)), []).extend(pictures)
            return [torch.zeros(3, 64, 64) for _ in pictures]

        return SimpleNamespace(make=make)

    def evaluator(self, prompt_set: Any, photos: Any, encoders: Any, seed: int) -> Any:
        def score(samples: Any, *, before: Any) -> Measured:
            value = MEANS[f"{prompt_set.style}"]
            return Measured({"DINO": Score("DINO", value, None, None, "an eye"), "DIV": Score("DIV", 1, 0, 2, "a ruler")}, None)

        name = next(
            one.output.output.parent.name for one in self.trained[::-1] if one.subject.class_word in prompt_set.class_prompt
        )
        prompt_set = SimpleNamespace(**vars(prompt_set), style=name)
        self.evaluators.append((prompt_set, photos))
        return SimpleNamespace(
            prompt_set=prompt_set,
            encoders=encoders,
            samples=lambda make: make(PromptSet.pictures(prompt_set)),
            score=score,
            photo_scores=lambda: {"DINO": Score("DINO", 0.9, None, None, "an eye")},
        )


def photos_of(name: str, folder: Path) -> None:
    """Five pictures, in place of rendered ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(5):
        Image.radial_gradient("L").resize((32, 32)).rotate(40 * number).save(folder / f"{number}.png")


@dataclass(frozen=True)
class StandInEncoders:
    dino: SimpleNamespace
    clip: SimpleNamespace
    distance_name: str = "a ruler"
    say: Any = None


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path / "out")
    judge = SimpleNamespace(name="an eye", digest="d")
    encoders = StandInEncoders(judge, judge)
    model = SimpleNamespace(digest=lambda: "m", metadata={}, family=SimpleNamespace(resolution=64), made_for=lambda side: model)
    monkeypatch.setattr(recipe, "write_photos", photos_of)
    for module in (recipe, jobs):
        monkeypatch.setattr(module, "choose_encoders", lambda *_, **__: encoders)
        monkeypatch.setattr(module, "read_base", lambda *_, **__: model)
    monkeypatch.setattr(jobs, "read_model", lambda *_, **__: model)
    for name, stand_in in {
        "train": world.train,
        "resume": world.resume,
        "SampleCache": world.sample_cache,
        "Evaluator": world.evaluator,
    }.items():
        monkeypatch.setattr(jobs, name, stand_in)
    return world


def settings(world: World, **changes: Any) -> BenchmarkSettings:
    return BenchmarkSettings(**{"dataset": "toybox", "subjects": NAMES, "output": world.output, **changes})


def run(world: World, **changes: Any) -> dict[str, Any]:
    return dict(benchmark(settings(world, **changes), SilentDisplay()).record)


def test_every_subject_is_learned_shown_and_measured(world: World) -> None:
    record = run(world)
    assert [one.output.output for one in world.trained] == [world.output / "subjects" / name / "run" for name in NAMES]
    assert [one.subject.photos for one in world.trained] == [world.output / "photos" / name for name in NAMES]
    assert [len([*one.subject.photos.iterdir()]) for one in world.trained] == [5] * 3
    assert {len(photos) for _, photos in world.evaluators} == {5}
    prompt_set, _ = world.evaluators[0]
    assert (prompt_set.prompts[0], prompt_set.descriptions[0]) == (
        "photo of a sks mug on the beach",
        "photo of a mug on the beach",
    )
    assert {folder: len(pictures) for folder, pictures in world.pictures.items()} == {
        **{f"subjects/{name}/pictures": 12 * 4 + 16 for name in NAMES},
        "class-before": 3 * 16,
    }
    assert {picture.prompt for picture in world.pictures["class-before"]} == {
        *("photo of a mug", "photo of a ball", "photo of a vase")
    }
    assert record["mean"]["DINO"]["value"] == pytest.approx(0.6)
    assert json.loads((world.output / "benchmark.json").read_text(encoding="utf-8")) == json.loads(json.dumps(record))
    assert [*world.output.glob("subjects/*/run/checkpoints")] == [], "large, and of no use any more"


def test_what_is_done_is_not_done_again(world: World) -> None:
    first = run(world, subjects=NAMES[:2])
    assert len(world.trained) == 2
    again = run(world)
    assert [one.subject.class_word for one in world.trained] == ["mug", "ball", "vase"]
    assert [*again["subjects"]] == NAMES
    assert again["subjects"]["zigzag-mug"] == first["subjects"]["zigzag-mug"]
    assert len(world.evaluators) == 3


def test_a_task_that_is_started_again_after_it_was_done_does_nothing(world: World) -> None:
    run(world, subjects=NAMES[:1])
    found, _ = recipe._jobs(settings(world))
    benchmark_subject(found["zigzag-mug"])
    assert (len(world.trained), len(world.evaluators)) == (1, 1)


def test_a_run_that_was_interrupted_goes_on(world: World) -> None:
    world.fail["marked-ball"] = Interrupted("train's own words", exit_code=143)
    with pytest.raises(Interrupted) as stop:
        run(world)
    assert (stop.value.exit_code, "run the same command to resume" in stop.value.text) == (143, True)
    assert len(world.trained) == 2, "the third was not begun"
    run(world)
    assert world.resumed == [world.output / "subjects" / "marked-ball" / "run"]
    assert len(world.trained) == 3


def test_a_run_that_was_killed_after_its_model_was_written_ends_its_records(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(world)
    folder = world.output / "subjects" / "marked-ball" / "run"
    with suppress(KeyError), recorded_status(RunFolder(folder)):
        raise KeyError("killed")
    scores = folder.parent / "scores.json"
    scores.unlink()
    run(world)
    assert world.resumed == [], "without a checkpoint there is nothing to go on with"
    monkeypatch.setattr(jobs, "find_checkpoints", lambda run: ["step-000400"])
    scores.unlink()
    run(world)
    assert world.resumed == [folder]


def test_what_a_kill_left_of_checkpoints_is_removed(world: World) -> None:
    run(world)
    left = world.output / "subjects" / "marked-ball" / "run" / "checkpoints" / "step-000400"
    left.mkdir(parents=True)
    run(world)
    assert not left.exists()


def test_a_stop_in_the_last_step_is_a_stop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "train", lambda *given: replace(world.train(*given), was_asked_to_stop=True))
    with pytest.raises(Interrupted):
        run(world)
    assert (len(world.trained), world.evaluators) == (1, [])
    run(world, subjects=NAMES[:1])
    assert world.resumed == [], "its model is there"


def test_a_subject_that_fails_leaves_the_others_alone(world: World) -> None:
    world.fail |= {"zigzag-mug": ModelFileError("broken"), "belted-vase": IndexError("a bug")}
    with pytest.raises(RunError) as raised:
        run(world)
    assert raised.value.problems == ("zigzag-mug: broken", "belted-vase: IndexError: a bug")
    assert raised.value.hint is not None
    assert raised.value.hint.startswith("1 of 3 subjects done.")
    assert "IndexError" in (world.output / "subjects" / "belted-vase" / "error.txt").read_text(encoding="utf-8")
    assert not (world.output / "subjects" / "zigzag-mug" / "error.txt").exists()
    written = json.loads((world.output / "benchmark.json").read_text(encoding="utf-8"))
    assert [*written["subjects"]] == ["marked-ball"]
    assert [*run(world)["subjects"]] == NAMES


def test_nothing_is_written_where_every_subject_fails(world: World) -> None:
    world.fail["zigzag-mug"] = ModelFileError("broken")
    with pytest.raises(RunError):
        run(world, subjects=NAMES[:1])
    assert not (world.output / "benchmark.json").exists()


def test_a_folder_answers_one_question(world: World) -> None:
    run(world, subjects=NAMES[:1])
    with pytest.raises(SettingsError, match=r"evaluation\.num_images is 2, and .*asked\.json says 4"):
        run(world, subjects=NAMES[:1], evaluation={"num_images": 2})
    with pytest.raises(SettingsError, match=r"^training\.loop\.steps is 7, and .*asked\.json says 400\nChoose another"):
        run(world, subjects=NAMES[:1], steps=7)
    run(world, subjects=NAMES[1:2], device="cpu", evaluation={"batch_size": 2})


@pytest.mark.parametrize("text", ["{", "{}", "3", "\xff"])
def test_a_subject_whose_scores_are_damaged_is_measured_again(world: World, text: str) -> None:
    first = run(world, subjects=NAMES[:2])
    (world.output / "subjects" / "zigzag-mug" / "scores.json").write_text(text, encoding="latin-1")
    assert run(world, subjects=NAMES[:2])["subjects"] == first["subjects"]
    assert (len(world.trained), len(world.evaluators)) == (2, 3)


def test_a_question_that_ray_could_not_begin_blocks_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreambooth.runtime.workers.has_ray", lambda: False)
    with pytest.raises(SettingsError, match="Ray is not installed"):
        run(world, subjects=NAMES[:1], ray="local")
    assert not (world.output / "asked.json").exists()
    run(world, subjects=NAMES[:1], steps=3)
    with pytest.raises(SettingsError, match="Ray is not installed"):
        run(world, subjects=NAMES[:2], steps=3, ray="local")
    assert (world.output / "asked.json").exists(), "what was measured stays an answer to what was asked"


def test_a_folder_that_was_moved_still_answers(world: World, tmp_path: Path) -> None:
    run(world, subjects=NAMES[:1])
    world.output = world.output.rename(tmp_path / "elsewhere")
    assert [*run(world, subjects=NAMES[:2])["subjects"]] == NAMES[:2]
    assert len(world.trained) == 2


def test_two_benchmarks_do_not_share_a_folder(world: World) -> None:
    with exclusive(world.output), pytest.raises(RunError, match="another process"):
        run(world)
    assert world.trained == []


def dataset(folder: Path) -> Path:
    folder.mkdir()
    (folder / PROMPTS.name).write_bytes(PROMPTS.read_bytes())
    photos_of("dog6", folder / "dog6")
    return folder


def training_of(world: World, tmp_path: Path, **changes: Any) -> TrainSettings:
    run(world, dataset=str(dataset(tmp_path / "data")), subjects=["dog6"], model="sd.ckpt", **changes)
    return world.trained[0]


def test_photos_that_are_others_now_are_all_told(world: World, tmp_path: Path) -> None:
    data = dataset(tmp_path / "data")
    photos_of("can", data / "can")
    MEANS.update(dog6=0.5, can=0.6)
    asked: dict[str, Any] = {"dataset": str(data), "model": "sd.ckpt"}
    run(world, **asked, subjects=["dog6"])
    Image.new("L", (32, 32)).save(data / "can" / "4.png")  # not begun, so it may change
    run(world, **asked, subjects=["dog6", "can"])
    (data / "dog6" / "0.png").rename(data / "dog6" / "9.png")
    Image.new("L", (32, 32), 9).save(data / "can" / "3.png")
    before = json.loads((world.output / "subjects" / "can" / "photos.json").read_text(encoding="utf-8"))
    with pytest.raises(PhotoError) as raised:
        run(world, **asked, subjects=["dog6", "can"])
    assert raised.value.problems == (
        f"{data / 'can' / '3.png'}: changed since can was started",
        f"{data / 'dog6' / '0.png'}: removed since dog6 was started",
        f"{data / 'dog6' / '9.png'}: added since dog6 was started",
    )
    folders = " and ".join(str(world.output / "subjects" / name) for name in ("can", "dog6"))
    assert raised.value.hint == f"Restore the original photos, choose another --output, or remove {folders} to start over."
    assert json.loads((world.output / "subjects" / "can" / "photos.json").read_text(encoding="utf-8")) == before
    for name in ("can", "dog6"):
        shutil.rmtree(world.output / "subjects" / name)
    run(world, **asked, subjects=["dog6", "can"])
    assert len(world.trained) == 4


def test_photos_that_cannot_be_compared_are_told_of(world: World, tmp_path: Path) -> None:
    MEANS["dog6"] = 0.5
    asked: dict[str, Any] = {"dataset": str(dataset(tmp_path / "data")), "model": "sd.ckpt", "subjects": ["dog6"]}
    run(world, **asked)
    remembered = world.output / "subjects" / "dog6" / "photos.json"
    remembered.write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"photos\.json: cannot be read"):
        run(world, **asked)
    remembered.unlink()
    assert [*run(world, **asked)["subjects"]] == ["dog6"], "as in folders of before this file was written"
    assert len(json.loads(remembered.read_text(encoding="utf-8"))) == 5


def test_photos_of_a_subject_that_was_not_begun_may_change(world: World, tmp_path: Path) -> None:
    MEANS.update(dog6=0.5, can=0.6)
    data = dataset(tmp_path / "data")
    photos_of("can", data / "can")
    asked: dict[str, Any] = {"dataset": str(data), "model": "sd.ckpt", "subjects": ["dog6", "can"]}
    world.fail["can"] = Interrupted("before the others", exit_code=130)
    with pytest.raises(Interrupted):
        run(world, **asked)
    Image.new("L", (32, 32)).save(data / "dog6" / "4.png")
    assert [*run(world, **asked)["subjects"]] == ["can", "dog6"]


def test_the_paper_says_how_its_dataset_is_learned(world: World, tmp_path: Path) -> None:
    MEANS["dog6"] = 0.5
    training = training_of(world, tmp_path)
    assert (training.optimizer.learning_rate, training.loop.steps, training.prior.prior_weight) == (5e-6, 1000, 1)
    assert (training.prior.num_prior_images, training.prior.class_prompt) == (200, "a {class_word}")
    assert (training.subject.instance_prompt, training.subject.class_word) == ("a {token} {class_word}", "dog")
    assert training.prior.prior_folder == world.output / "class-images"
    assert (training.output.preview_steps, training.output.keep_checkpoints, training.output.model_steps) == (0, 1, 0)
    prompt_set, _ = world.evaluators[0]
    assert len(PromptSet.pictures(prompt_set)) == 25 * 4 + 16
    assert (prompt_set.prompts[11], prompt_set.descriptions[11]) == (
        "a sks dog wearing a santa hat",
        "a dog wearing a santa hat",
    )


def test_a_preset_goes_over_the_paper_and_flags_over_the_preset(world: World, tmp_path: Path) -> None:
    MEANS["dog6"] = 0.5
    preset = tmp_path / "mine.yaml"
    preset.write_text("optimizer: {learning_rate: 1.0e-6}\nloop: {steps: 9}\nprior: {prior_weight: 0}\n", encoding="utf-8")
    training = training_of(world, tmp_path, preset=str(preset), steps=5)
    assert (training.optimizer.learning_rate, training.loop.steps, training.prior.prior_weight) == (1e-6, 5, 0)


def test_quick_is_shorter_where_nothing_else_is_asked(world: World) -> None:
    run(world, subjects=NAMES[:1], quick=True, evaluation={"num_class_images": 3})
    training, (prompt_set, _) = world.trained[0], world.evaluators[0]
    assert (training.loop.steps, training.prior.num_prior_images, training.optimizer.learning_rate) == (100, 16, 2e-4)
    assert (prompt_set.num_images, prompt_set.num_class_images) == (2, 3)


def test_mistakes_are_told_before_anything_is_written(world: World, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="model is missing"):
        run(world, dataset=str(dataset(tmp_path / "data")), subjects=["dog6"])
    with pytest.raises(SettingsError, match=r"preset is 'faces'.*did you mean 'face'"):
        run(world, preset="faces")
    with pytest.raises(SettingsError, match="no subject is called 'mug'"):
        run(world, subjects=["mug"])
    assert not world.output.exists()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"dataset": "folder", "quick": True}, "quick requires --dataset toybox"),
        ({"ray": "auto", "device": "cuda:1"}, "ray chooses"),
        ({"evaluation": {"prompts": "p.txt"}}, "prompts would have no effect"),
    ],
)
def test_options_without_effect_are_refused(changes: dict[str, Any], word: str, world: World) -> None:
    with pytest.raises(ValueError, match=word):
        settings(world, **changes)


@pytest.mark.parametrize(
    ("num_gpus", "num_jobs", "changes", "workers"),
    [
        (0, 5, {}, InThisProcess()),
        (2, 1, {}, InThisProcess()),
        (2, 5, {}, OverRay(None)),
        (2, 5, {"device": "cuda:1"}, InThisProcess()),
        (0, 5, {"ray": "auto"}, OverRay("auto")),
        (0, 5, {"ray": "local", "device": "cpu"}, OverRay("local", needs_gpu=False)),
    ],
)
def test_ray_is_used_where_it_helps_or_is_asked_for(
    num_gpus: int, num_jobs: int, changes: dict[str, Any], workers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = BenchmarkSettings(dataset="toybox", **changes)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    monkeypatch.setattr(recipe, "has_ray", lambda: True)
    assert recipe._workers(asked, num_jobs, SilentDisplay()) == workers


def test_several_gpus_without_ray_are_told_of(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(recipe, "has_ray", lambda: False)
    console = Console(record=True, quiet=False, width=200)
    assert recipe._workers(settings(world), 5, ConsoleDisplay(console)) == InThisProcess()
    assert "pip install 'dreambooth[ray]'" in console.export_text()


def test_a_job_can_travel(world: World) -> None:
    found, _ = recipe._jobs(settings(world))
    job = found["marked-ball"]
    assert pickle.loads(pickle.dumps(job)) == job
    assert isinstance(job, SubjectJob)
    assert all(path.is_absolute() for path in (job.folder, job.shared, job.training.output.output, job.subject.photos))
    assert pickle.loads(pickle.dumps(benchmark_subject)) is benchmark_subject
