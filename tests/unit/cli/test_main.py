"""The door: which recipe runs with what, and what a mistake looks like."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dreambooth import __version__
from dreambooth.cli.main import main
from dreambooth.errors import Interrupted, ModelFileError, RunError, SettingsError
from dreambooth.schema.verbs import TokensSettings, TrainSettings


class Recipe:
    """Stands in for a recipe: remembers its arguments, raises what it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.error: BaseException | None = None

    def __call__(self, *arguments: Any) -> None:
        self.calls.append(arguments)
        if self.error is not None:
            raise self.error


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The recipes behind `tokens` and `train`, replaced."""
    stand_in = Recipe()
    for name, functions in {"tokens": ["propose_tokens"], "train": ["train", "resume"]}.items():
        module = ModuleType(f"dreambooth.recipes.{name}")
        for function in functions:
            setattr(module, function, stand_in)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return stand_in


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """The command sets variables for its own process, which here is everybody's."""
    before = dict(os.environ)
    for name in ("DREAMBOOTH_DEBUG", "DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
        os.environ.pop(name, None)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_a_verb_runs_its_recipe_with_its_settings(recipe: Recipe) -> None:
    assert main(["tokens", "--num-tokens", "3"]) == 0
    ((settings, display),) = recipe.calls
    assert settings == TokensSettings(num_tokens=3)
    assert type(display).__name__ == "ConsoleDisplay"


def test_train_starts_a_run(recipe: Recipe) -> None:
    assert main(["train", "--model", "a", "--photos", "b", "--class-word", "dog", "--preset", "face"]) == 0
    ((settings, _),) = recipe.calls
    assert isinstance(settings, TrainSettings)
    assert settings.views.flip_probability == 0


def test_train_resumes_a_run(recipe: Recipe, tmp_path: Path) -> None:
    assert main(["train", "--resume", str(tmp_path), "--steps", "9"]) == 0
    ((run, changes, _),) = recipe.calls
    assert (run, changes) == (tmp_path, {"loop.steps": "9"})


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (SettingsError("steps is odd", hint="Type: 800"), 2, "error: steps is odd\nType: 800\n"),
        (ModelFileError("x.ckpt: cut short"), 1, "error: x.ckpt: cut short\n"),
        (RunError(["a [bold]", "b"], hint="Do c."), 1, "error: 2 problems\n- a [bold]\n- b\nDo c.\n"),
        (Interrupted("Saved at step 12.\nGo on: x", exit_code=143), 143, "Saved at step 12.\nGo on: x\n"),
        (KeyboardInterrupt(), 130, "Stopped.\n"),
    ],
)
def test_what_a_recipe_raises_becomes_a_text_and_a_code(
    recipe: Recipe, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, text: str
) -> None:
    recipe.error = error
    assert main(["tokens"]) == code
    assert capsys.readouterr() == ("", text)


@pytest.mark.parametrize(
    ("place", "said"), [(None, "error: "), ("runs/dog/model.safetensors", "error: runs/dog/model.safetensors: ")]
)
def test_a_full_disk_is_told_with_what_to_do(
    recipe: Recipe, capsys: pytest.CaptureFixture[str], place: str | None, said: str
) -> None:
    recipe.error = OSError(errno.ENOSPC, "No space left on device", place)
    assert main(["tokens"]) == 1
    first, *more = capsys.readouterr().err.splitlines()
    assert first == f"{said}cannot write the file (No space left on device)"
    assert more[0].startswith("Free some disk space, then run the same command again.")
    assert more[1] == "  dreambooth train --resume FOLDER"
    recipe.error = PermissionError(errno.EACCES, "Permission denied", "runs")
    assert main(["tokens"]) == 1
    assert capsys.readouterr().err == "error: runs: Permission denied\n"


def test_errors_are_red_on_a_terminal(
    recipe: Recipe, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    recipe.error = RunError("broken")
    main(["tokens"])
    assert capsys.readouterr().err == "\x1b[1;31merror: \x1b[0mbroken\n"


def test_an_error_cannot_control_the_terminal(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "toybox", "--\x1b[2Jx"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_defects_of_ours_are_not_dressed_up(recipe: Recipe) -> None:
    recipe.error = ZeroDivisionError("ours")
    with pytest.raises(ZeroDivisionError):
        main(["tokens"])


def test_a_traceback_can_be_asked_for(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAMBOOTH_DEBUG", "1")
    recipe.error = RunError("broken")
    with pytest.raises(RunError):
        main(["tokens"])


def test_mistakes_on_the_command_line_run_nothing(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "--num-tokens", "0"]) == 2
    assert capsys.readouterr().err == "error: --num-tokens is '0': expected at least 1\nSee `dreambooth tokens --help`.\n"
    assert recipe.calls == []


def test_help_and_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"
    for arguments in ([], ["-h"], ["--help"]):
        assert main(arguments) == 0
        text = capsys.readouterr().out
        assert text.startswith("Usage: dreambooth VERB")
        verbs = [
            "train",
            "photos",
            "generate",
            "evaluate",
            "benchmark",
            "batch",
            "prior",
            "plan",
            "convert",
            "inspect",
            "tokens",
            "demo",
            "masks",
            "caption",
            "push",
            "web",
            "lora",
            "toybox",
        ]
        assert [line.split()[1] for line in text.splitlines() if line.startswith("│ ") and line[2] != " "] == verbs


def test_an_unknown_verb_is_told_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    known = "train, photos, generate, evaluate, benchmark, batch, prior, plan, convert, inspect, tokens, demo, masks, caption"
    known += ", push, web, lora, toybox"
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"error: unknown verb 'trian': the verbs are {known}; did you mean 'train'?"
    assert second == "See `dreambooth --help`."


def test_libraries_are_told_to_be_quiet_unless_the_person_said_otherwise(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    main(["tokens"])
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "info"
    assert os.environ["DIFFUSERS_VERBOSITY"] == "error"


def test_waiting_threads_are_told_to_go_to_sleep_unless_somebody_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    main(["--version"])
    assert os.environ["GOMP_SPINCOUNT"] == "100000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    main(["--version"])
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def test_what_is_told_at_the_end_is_no_setting(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Any, ...]] = []

    def with_notice(*arguments: Any) -> None:
        told.append(arguments[:3])
        arguments[3]()

    monkeypatch.setattr("dreambooth.cli.notices.with_notice", with_notice)
    address = "https://example.org/secret"
    typed = ["train", "--model", "toybox", "--photos", str(tmp_path), "--class-word", "dog", "--output", str(tmp_path / "run")]
    assert main([*typed, "--notify", address]) == 0
    assert told == [(address, "dreambooth train", str(tmp_path / "run"))]
    assert address not in str(recipe.calls)
    assert main([*typed, "--notify", "no-such-program"]) == 2
    assert len(recipe.calls) == 1
