"""Subjects are checked together, trained one at a time on each device, and what is done is passed over the next time.

Training is a stand-in here.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dreambooth.config import write_yaml
from dreambooth.display_console import ConsoleDisplay
from dreambooth.errors import DreamboothError, Interrupted, RunError, SettingsError
from dreambooth.files import write_json
from dreambooth.recipes import batch as recipe
from dreambooth.recipes import batch_check
from dreambooth.recipes.batch import BatchResult, Slot, batch, slots_of, train_all
from dreambooth.recipes.batch_check import Checked, error_of, warnings_by_text
from dreambooth.recipes.batch_table import SubjectProgress, batch_status, read_subject
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.kept_training import Ending, TrainingJob
from dreambooth.runs.lock import exclusive
from dreambooth.runs.settings import BatchSettings
from dreambooth.runs.status import RunStatus
from dreambooth.schema.manifest import read_manifest


class World:
    """Stands in for the trainings of a batch: each looks a few times, then ends as it is told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.devices: dict[str, Any] = {}
        self.changes: dict[str, Any] = {}
        self.at_once: list[tuple[str, ...]] = []
        self.endings: dict[str, Ending] = {}
        self.signal_in: str | None = None
        self.stopped: list[str] = []

    def training(self, job: TrainingJob, *, device: str | None, environment: Any) -> Any:
        world = self
        world.begun.append(job.name)
        world.devices[job.name] = (device, environment)
        world.changes[job.name] = job.changes

        class Training:
            def __init__(self) -> None:
                self.job = job
                self.looks = 0

            def look(self) -> Ending | None:
                self.looks += 1
                if world.signal_in == job.name and self.looks == 2:
                    signal.raise_signal(signal.SIGINT)
                if job.name in world.stopped:
                    return Ending("stopped", "stopped as asked")
                if self.looks < 3:
                    return None
                ending = world.endings.get(job.name, Ending("finished"))
                finish(job.run, state=ending.state)
                return ending

            def stop(self) -> None:
                world.stopped += [] if job.name in world.stopped else [job.name]

        return Training()


def finish(run: RunFolder, *, state: Any = "finished", steps: int = 4) -> None:
    """Write what a training of that end leaves."""
    training = read_manifest(run.path.parent.parent / "subjects.yaml", run.path.parent).trainings[run.path.name]
    memory = training.memory.model_copy(update={"memory_preset": "cpu"})
    write_yaml(run.config, training.model_copy(update={"memory": memory}), comment="")
    write_json(run.status, asdict(RunStatus(state, "host", 1, 0.0, 1.0, 2.0)))
    run.events.write_text(
        "".join(json.dumps({"event": "step", "step": step + 1, "time": step}) + "\n" for step in range(steps))
    )
    if state == "finished":
        run.final_model.write_bytes(b"")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(recipe, "KeptTraining", world.training)
    monkeypatch.setattr(recipe, "_LOOK_SECONDS", 0.001)
    return world


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is wrong with any subject."""
    monkeypatch.setattr(batch_check, "check_everything", lambda *_, **__: type("Ready", (), {"disk_bytes": 1}))


@pytest.fixture
def listed(tmp_path: Path, small_model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., BatchSettings]:
    """The settings of a batch of so many subjects, with values for all and for each."""
    monkeypatch.chdir(tmp_path)

    def make(*names: str, device: str | None = "cpu", defaults: Any = None, **own: Any) -> BatchSettings:
        common = {"base": {"model": str(small_model)}, "prior": {"prior_weight": 0}, "loop": {"steps": 4}, **(defaults or {})}
        subjects = {name: {"photos": str(photos), "class_word": "bag", **own.get(name, {})} for name in names}
        (tmp_path / "subjects.yaml").write_text(yaml.safe_dump({"defaults": common, "subjects": subjects}, sort_keys=False))
        return BatchSettings(subjects=Path("subjects.yaml"), output=Path("out"), device=device)

    return make


Said = Callable[[], str]


@pytest.mark.usefixtures("unchecked")
def test_each_subject_is_trained_once(
    listed: Callable[..., BatchSettings], world: World, display: ConsoleDisplay, said: Said, tmp_path: Path
) -> None:
    settings = listed("rex", "mia")
    assert batch(settings, display) == BatchResult({name: tmp_path / "out" / name for name in ("rex", "mia")})
    assert (world.begun, world.devices["rex"]) == (["rex", "mia"], ("cpu", {}))
    assert "2 subjects in out: 2 to train" in said()
    assert "To use a model:\n  dreambooth generate --model out/rex --prompt 'photo of a sks bag'" in said()
    assert "step 8/8" in said()
    batch(settings, display)
    assert world.begun == ["rex", "mia"]
    assert "2 subjects in out: 0 to train" in said()


@pytest.mark.usefixtures("unchecked")
def test_a_subject_that_fails_leaves_the_others_alone_and_is_tried_again(
    listed: Callable[..., BatchSettings], world: World, display: ConsoleDisplay, said: Said
) -> None:
    settings = listed("rex", "mia", "tom")
    world.endings = {"rex": Ending("failed", "no memory"), "mia": Ending("stopped", "the time limit was reached")}
    with pytest.raises(RunError) as raised:
        batch(settings, display)
    assert raised.value.problems == ("rex: no memory", "mia: the time limit was reached")
    assert raised.value.hint == (
        "1 of 3 subjects finished. Run the same command to train the others.\n"
        "If the settings of rex are the cause, change them in subjects.yaml, remove out/rex, and run the same command. "
        "Otherwise fix the cause and run the same command.\n"
        "What each training said is in out/batch."
    )
    assert world.begun == ["rex", "mia", "tom"]
    world.endings = {}
    batch(settings, display)
    assert world.begun == ["rex", "mia", "tom", "rex", "mia"]


@pytest.mark.usefixtures("unchecked")
def test_the_others_are_named_only_if_some_are_left(
    listed: Callable[..., BatchSettings], world: World, display: ConsoleDisplay
) -> None:
    world.endings = {"rex": Ending("failed", "the loss is nan")}
    with pytest.raises(RunError) as raised:
        batch(listed("rex", "mia"), display)
    assert raised.value.hint is not None
    assert raised.value.hint.startswith("1 of 2 subjects finished.\nIf the settings of rex are the cause, change them in")


@pytest.mark.usefixtures("unchecked")
def test_being_asked_to_stop_stops_what_runs_and_begins_nothing_more(
    listed: Callable[..., BatchSettings], world: World, display: ConsoleDisplay, said: Said
) -> None:
    world.signal_in = "rex"
    with pytest.raises(Interrupted) as stop:
        batch(listed("rex", "mia"), display)
    assert (stop.value.exit_code, stop.value.text) == (130, "Stopped and saved. Run the same command to resume.")
    assert (world.begun, world.stopped) == (["rex"], ["rex"])
    assert "mia       waiting" in said()


def test_each_device_has_one_subject_at_a_time(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "endings", {})
    monkeypatch.setattr("tests.unit.recipes.test_batch.finish", lambda *_, **__: None)
    jobs = [TrainingJob(str(n), RunFolder(tmp_path / str(n)), tmp_path, tmp_path, tmp_path) for n in range(5)]
    slots = [Slot("cuda", {"CUDA_VISIBLE_DEVICES": number}) for number in "13"]
    at_once = list[Sequence[str]]()
    endings = [*train_all(jobs, slots, is_stopping=lambda: False, meanwhile=at_once.append)]
    assert [job.name for job, _ in endings] == ["0", "1", "2", "3", "4"]
    assert max(map(len, at_once)) == 2
    assert {world.devices[name][1]["CUDA_VISIBLE_DEVICES"] for name in world.begun} == {"1", "3"}


def test_every_gpu_that_the_command_sees_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    assert slots_of(None) == tuple(Slot("cuda", {"CUDA_VISIBLE_DEVICES": name}) for name in "35")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert slots_of(None) == tuple(Slot("cuda", {"CUDA_VISIBLE_DEVICES": name}) for name in "01")
    assert slots_of("cpu") == (Slot("cpu", {}),)


def test_problems_of_all_subjects_are_told_at_once_before_any_training(
    listed: Callable[..., BatchSettings], world: World, display: ConsoleDisplay
) -> None:
    settings = listed(
        "rex", "mia", "tom", rex={"photos": "nowhere"}, mia={"loop": {"steps": "many"}}, tom={"views": {"resolution": 20}}
    )
    with pytest.raises(DreamboothError) as raised:
        batch(settings, display)
    assert [problem.partition(": ")[0] for problem in raised.value.problems] == ["rex", "mia", "tom"]
    rex, mia, tom = raised.value.problems
    assert "nowhere" in rex
    assert mia == "mia: subjects.yaml: 'loop.steps' is 'many': expected a whole number"
    assert "20" in tom
    assert (world.begun, Path("out").exists()) == ([], False)


def test_a_run_that_is_to_become_longer_is_resumed_with_the_new_steps(
    listed: Callable[..., BatchSettings], world: World, display: ConsoleDisplay
) -> None:
    batch(listed("rex", "mia"), display)
    batch(listed("rex", "mia", mia={"loop": {"steps": 6}}), display)
    assert world.begun == ["rex", "mia", "mia"]
    assert world.changes["mia"] == {"steps": 6}
    batch(listed("rex", "mia", mia={"loop": {"steps": 6}}), display)
    assert len(world.begun) == 3, "the new number of steps is remembered"


@pytest.mark.usefixtures("unchecked")
def test_settings_that_a_run_cannot_change_are_refused(
    listed: Callable[..., BatchSettings], world: World, display: ConsoleDisplay, tmp_path: Path
) -> None:
    batch(listed("rex", "mia"), display)
    with pytest.raises(SettingsError) as raised:
        batch(listed("rex", "mia", rex={"loop": {"steps": 3}}, mia={"token": "mwf"}), display)
    assert raised.value.problems[0].startswith("rex: loop.steps was 4 and is now 3; it can only increase")
    assert f"remove {tmp_path / 'out' / 'rex'} to train the subject again" in raised.value.problems[0]
    assert raised.value.problems[1].startswith("mia: subject.token was 'sks' when the run started and is now 'mwf'")
    assert len(world.begun) == 2


def test_a_folder_of_another_run_is_refused(
    listed: Callable[..., BatchSettings], world: World, display: ConsoleDisplay, photos: Path
) -> None:
    shutil.copytree(photos, "out/rex")
    with pytest.raises(DreamboothError, match=r"rex: .*out/rex: already holds other files"):
        batch(listed("rex"), display)


@pytest.mark.usefixtures("unchecked")
def test_a_finished_run_whose_model_was_removed_is_resumed(
    listed: Callable[..., BatchSettings], world: World, display: ConsoleDisplay
) -> None:
    batch(listed("rex", "mia"), display)
    RunFolder(Path("out/mia")).final_model.unlink()
    assert read_subject(RunFolder(Path("out/mia")), 4, ending=None, is_started=False).state == "waiting"
    batch(listed("rex", "mia"), display)
    assert world.begun == ["rex", "mia", "mia"]
    assert RunFolder(Path("out/mia")).final_model.exists()


@pytest.mark.parametrize("makes", [Path.mkdir, Path.touch])
def test_an_output_that_cannot_hold_the_runs_is_refused(
    makes: Callable[[Path], None], listed: Callable[..., BatchSettings], display: ConsoleDisplay
) -> None:
    settings = listed("rex")
    makes(Path("out"))
    is_run = Path("out").is_dir()
    if is_run:
        Path("out/config.yaml").write_text("loop: {steps: 4}\n")
    with pytest.raises(RunError) as raised:
        batch(settings, display)
    assert raised.value.problems == (f"out: {'already holds a run' if is_run else 'expected a folder, found a file'}",)
    assert raised.value.hint == "Choose another folder, for example: --output out-batch"
    assert not is_run or [path.name for path in Path("out").iterdir()] == ["config.yaml"]


@pytest.mark.usefixtures("unchecked")
def test_two_batches_in_one_folder_are_refused(
    listed: Callable[..., BatchSettings], world: World, display: ConsoleDisplay
) -> None:
    with exclusive(Path("out")), pytest.raises(RunError, match="another process is training here"):
        batch(listed("rex"), display)
    assert world.begun == []


def test_subjects_that_together_need_more_than_the_disk_has_are_refused_before_the_first(tmp_path: Path) -> None:
    half = shutil.disk_usage(tmp_path).total // 2 + 1
    assert error_of({"rex": Checked(disk_bytes=1)}, tmp_path) is None
    error = error_of({"rex": Checked(disk_bytes=half), "mia": Checked(disk_bytes=half)}, tmp_path)
    assert error is not None
    assert "GB are free" in error.text


def test_a_hint_that_all_problems_share_is_given_once() -> None:
    error = error_of({"rex": Checked(("a", "b"), "do"), "mia": Checked(("c",), "do"), "tom": Checked()}, Path())
    assert error is not None
    assert error.text == "- rex: a\n- rex: b\n- mia: c\ndo"


def test_a_warning_names_all_its_subjects() -> None:
    found = {"rex": Checked(warnings=("slow", "slow")), "mia": Checked(warnings=("slow", "dark"))}
    assert warnings_by_text(found) == {"slow": ["rex", "mia"], "dark": ["mia"]}


def test_the_table_shows_who_is_worked_on_and_the_time_left() -> None:
    found = {
        "rex": SubjectProgress("finished", 8, 8, None),
        "mia": SubjectProgress("training", 4, 8, 2.0),
        "tom": SubjectProgress("preparing", 0, 8, None),
        "ada": SubjectProgress("failed", 3, 8, None),
        "bob": SubjectProgress("waiting", 0, 8, None),
    }
    status = batch_status(found, num_at_once=2)
    assert (status.step, status.time_left) == (15, "20 s")
    assert [(row.name, row.value, row.is_detail) for row in status.rows] == [
        ("mia", "step 4/8, 8 s left", False),
        ("tom", "preparing", False),
        ("rex", "finished", True),
        ("ada", "failed, step 3/8", True),
        ("bob", "waiting", True),
    ]
    many = batch_status({f"{name}{n}": one for n in range(9) for name, one in found.items()}, num_at_once=2)
    assert (many.rows[-1].name, many.rows[-1].value) == ("others", "9 finished, 9 failed, 9 waiting")
    assert len(many.rows) == 19


def test_progress_is_read_from_the_runs_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert read_subject(run, 8, ending=None, is_started=False) == SubjectProgress("waiting", 0, 8, None)
    assert read_subject(run, 8, ending=None, is_started=True) == SubjectProgress("preparing", 0, 8, None)
    run.events.write_text("".join(json.dumps({"event": "step", "step": step, "time": 3.0 * step}) + "\n" for step in (1, 2)))
    write_json(run.status, asdict(RunStatus("running", "another host", 1, 0.0, 1.0)))
    assert read_subject(run, 8, ending=None, is_started=False) == SubjectProgress("training", 2, 8, 3.0)
    assert read_subject(run, 8, ending=Ending("failed"), is_started=False) == SubjectProgress("failed", 2, 8, None)
