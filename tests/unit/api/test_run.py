"""An opened run, before any of its models is read."""

from __future__ import annotations

from pathlib import Path

import pytest

import dreambooth


def test_a_run_stays_the_same_after_a_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rex").mkdir()
    (tmp_path / "rex" / "config.yaml").touch()
    monkeypatch.chdir(tmp_path)
    run = dreambooth.open("rex")
    monkeypatch.chdir("rex")
    assert run.path == tmp_path / "rex"


def test_the_settings_of_a_deleted_run_are_an_error_that_says_so(tmp_path: Path) -> None:
    config = tmp_path / "rex" / "config.yaml"
    config.parent.mkdir()
    config.touch()
    run = dreambooth.open(config.parent)
    config.unlink()
    with pytest.raises(dreambooth.RunError, match=r"no longer holds a run: config\.yaml is missing"):
        _ = run.settings
    config.parent.rmdir()
    with pytest.raises(dreambooth.RunError, match="rex: no longer exists"):
        _ = run.settings


@pytest.mark.parametrize("path", [5, None, b"runs"])
def test_what_is_no_path_is_no_run(path: object) -> None:
    with pytest.raises(dreambooth.RunError, match="expected a path"):
        dreambooth.open(path)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["prompt", "model"])
def test_a_second_prompt_or_model_is_not_dropped(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    run = dreambooth.open(tmp_path)
    with pytest.raises(dreambooth.SettingsError, match=f"unknown setting '{name}'\n"):
        run.generate("a cat", **{name: "a dog"})
    if name == "prompt":
        with pytest.raises(dreambooth.SettingsError, match="unknown setting 'prompt'\n"):
            dreambooth.generate("a cat", model="toybox", prompt="a dog")
