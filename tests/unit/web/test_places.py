"""Pages show paths as a person here would type them, commands stay typable, and no token is shown."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from dreambooth.cli.flags import read_arguments
from dreambooth.cli.layers import settings_from
from dreambooth.cli.verbs import VERBS
from dreambooth.web.commands import verb_command
from dreambooth.web.desk import Desk
from dreambooth.web.places import shown_path, shown_text, typed_line

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the paths of these tests are POSIX's")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home, here = tmp_path / "home", tmp_path / "here"
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    return home


def test_what_is_said_names_short_places_only(tmp_path: Path, home: Path) -> None:
    projects = tmp_path / "projects"
    said = f"error: {projects}/rex/photos: no {home}/sd.ckpt, '{Path.cwd()}/a.txt', /data{home}/b or {home}-2/c"
    assert shown_text(said, projects=projects) == f"error: rex/photos: no ~/sd.ckpt, 'a.txt', /data{home}/b or {home}-2/c"


def test_what_is_below_the_current_or_the_home_folder_can_be_typed_as_it_is_shown(home: Path) -> None:
    for projects, shown in ((Path.cwd() / "projects", "projects"), (home / "projects", "~/projects")):
        assert shown_text(f"dreambooth inspect {projects}/rex/1", projects=projects) == f"dreambooth inspect {shown}/rex/1"


def test_a_folder_at_the_root_is_no_beginning_of_every_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    monkeypatch.chdir("/")
    assert shown_text("no /etc/x", projects=Path("/projects")) == "no /etc/x"
    assert typed_line(["cat", "/etc/x"]) == "cat /etc/x"
    assert shown_path(Path("/")) == "/"


def test_tokens_are_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    said = shown_text(f"key 0123456789abcdef, Bearer hf_{'x' * 30}, hf_auth", projects=tmp_path)
    assert said == "key [token], Bearer [token], hf_auth"


def test_commands_are_short_and_a_shell_reads_what_is_run(home: Path) -> None:
    model, output = home / "my models" / "it's.ckpt", home / "out"
    command = verb_command("generate", model=model, prompt=["a dog", "~"], lora=[home / "a.safetensors"], output=output)
    quote = shlex.quote("my models/it's.ckpt")
    assert command.typed == f"dreambooth generate --model ~/{quote} --prompt 'a dog' '~' --lora ~/a.safetensors --output ~/out"
    read = [str(home / word[2:]) if word.startswith("~/") else word for word in shlex.split(command.typed)]
    verb = VERBS["generate"]
    typed, run = (
        settings_from(verb, verb.record(), read_arguments(verb, verb.record(), words))
        for words in (read[2:], command.arguments[4:])
    )
    assert typed == run and str(model) in str(run)
    assert shown_path(output) == "~/out" and shown_path(Path.cwd() / "b") == "b" and shown_path(Path("/mnt/x")) == "/mnt/x"


def test_problems_on_pages_name_short_places(client: TestClient, trained: str, desk: Desk) -> None:
    (desk.projects.named(trained).runs / "1" / "config.yaml").write_text("{", encoding="utf-8")
    (problem,) = client.get(f"/api/v1/projects/{trained}/try").json()["problems"]
    assert problem.startswith("demo/runs/1/config.yaml: ")
