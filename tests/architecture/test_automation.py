"""What runs elsewhere can run: workflows, hooks and forms can be read, and every command and file that they name exists."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from dreambooth.cli.flags import read_arguments
from dreambooth.cli.layers import settings_from
from dreambooth.cli.verbs import VERBS

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[2]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def _read(*parts: str) -> Any:
    return yaml.safe_load(ROOT.joinpath(*parts).read_text(encoding="utf-8"))


def _commands() -> Iterator[str]:
    for job in _read(".github", "workflows", "ci.yml")["jobs"].values():
        for step in job["steps"]:
            yield from step.get("run", "").splitlines()
    for repository in _read(".pre-commit-config.yaml")["repos"]:
        yield from (hook["entry"] for hook in repository["hooks"])


def _problem(command: str) -> str | None:
    """Why a command cannot be typed in this repository; None when it can."""
    program, *arguments = shlex.split(command)
    program = program.removeprefix(".venv/bin/")
    if "/" in program:
        return None if os.access(ROOT / program, os.X_OK) else "no such program"
    if program in _CHECKS:
        return _CHECKS[program](arguments)
    return None if shutil.which(program, path=Path(sys.executable).parent) else "not installed"


def _pip_problem(arguments: list[str]) -> str | None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    extras = re.findall(r"\.\[(\w+)\]", " ".join(arguments))
    pinned = re.findall(r"grep \^(\S+==) ", " ".join(arguments))
    absent = [name for name in extras if name not in EXTRAS] + [name for name in pinned if f"\n{name}" not in constraints]
    return f"unknown: {absent}" if absent or not extras + pinned else None


def _dreambooth_problem(arguments: list[str]) -> str | None:
    verb = VERBS[arguments[0]]
    given = read_arguments(verb, verb.record(), arguments[1:])
    settings_from(verb, verb.record(), given)
    return "; ".join(map(str, given.problems)) or None


def _python_problem(arguments: list[str]) -> str | None:
    return None if arguments[0] == "-m" and find_spec(arguments[1]) is not None else "no such module"


def _pytest_problem(arguments: list[str]) -> str | None:
    absent = [name for name in arguments if "/" in name and not (ROOT / name).exists()]
    return f"no such tests: {absent}" if absent else None


def _make_problem(arguments: list[str]) -> str | None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return None if set(arguments) <= set(targets) else f"no such target: {arguments}"


def _mkdocs_problem(_: list[str]) -> str | None:
    return None if (ROOT / "mkdocs.yml").is_file() and EXTRAS["docs"] else "no pages"


_CHECKS = {
    "make": _make_problem,
    "pip": _pip_problem,
    "dreambooth": _dreambooth_problem,
    "python": _python_problem,
    "pytest": _pytest_problem,
    "mkdocs": _mkdocs_problem,
}


def test_every_command_of_the_workflow_and_the_hooks_can_be_typed() -> None:
    commands = list(_commands())
    assert len(commands) >= 8
    assert {command: problem for command in commands if (problem := _problem(command)) is not None} == {}


def test_the_workflow_runs_all_of_the_local_one_on_linux() -> None:
    jobs = _read(".github", "workflows", "ci.yml")["jobs"]
    assert [job["runs-on"] for job in jobs.values() if {"run": ".ci/run"} in job["steps"]] == ["ubuntu-latest"]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_forms_have_what_github_wants_of_them(form: Path) -> None:
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.stem == "config":
        return
    assert {"name", "description", "body"} <= content.keys()
    asked = [field for field in content["body"] if field["type"] != "markdown"]
    assert all(field["attributes"]["label"] and re.fullmatch(r"[\w-]+", field["id"]) for field in asked)
    assert len({field["id"] for field in asked}) == len(asked) >= 1


def test_reports_of_bugs_come_with_the_settings_and_the_model() -> None:
    for form in ("bug.yml", "quality.yml"):
        ids = {field.get("id") for field in _read(".github", "ISSUE_TEMPLATE", form)["body"]}
        assert {"config", "inspect"} <= ids


def test_the_image_copies_files_that_exist_and_does_not_run_as_root() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")]
    copied = [source for line in lines if line.startswith("COPY ") for source in line.split()[1:-1]]
    assert sorted(copied) == sorted(sent)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert [line.split()[1] for line in lines if line.startswith("USER ")][-1] not in ("root", "0")
    assert 'ENTRYPOINT ["dreambooth"]' in lines and "dreambooth" in PROJECT["scripts"]


def test_what_the_documentation_needs_is_pinned() -> None:
    pinned = re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert [text for text in EXTRAS["docs"] if Requirement(text).name not in pinned] == []
