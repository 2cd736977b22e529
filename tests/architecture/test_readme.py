"""The README and the documentation tell the truth: their commands can be typed, and the files that they name are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from textwrap import dedent

import pytest

from dreambooth.cli.flags import read_arguments
from dreambooth.cli.layers import settings_from
from dreambooth.cli.verbs import DREAMBOOTH, LORA, TOYBOX
from experiments.toybox.verbs import PROGRAM

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PACKAGE = ROOT / "src" / "dreambooth"
_TYPED = r"(dreambooth|dreambooth lora|dreambooth toybox|python -m experiments\.toybox) [a-z]+( |$)"


VERBS = [verb for program in (DREAMBOOTH, LORA, TOYBOX, PROGRAM) for verb in program.verbs.values()]

SUBJECTS = ROOT / "docs" / "how-to" / "several-subjects.md"
"""Begins with a list of subjects."""


def _commands() -> list[str]:
    pages = [README, *sorted((ROOT / "docs").rglob("*.md"))]
    texts = [*(page.read_text(encoding="utf-8") for page in pages), *("\n".join(verb.examples) for verb in VERBS)]
    lines = [line.strip() for text in texts for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in dict.fromkeys(lines) if re.match(_TYPED, line) and "...`" not in line]


@pytest.mark.parametrize("command", [command for command in _commands() if "--help" not in command])
def test_every_command_can_be_typed(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "runs" / "rex"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("base: {model: a}\nsubject: {photos: b, class_word: dog}\n", encoding="utf-8")
    listed = re.search(r"(?m)(?:^    .*\n)+", SUBJECTS.read_text(encoding="utf-8"))
    assert listed is not None
    (tmp_path / "subjects.yaml").write_text(dedent(listed[0]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    verb = next(verb for verb in VERBS if f"{command} ".startswith(f"{verb.command} "))
    arguments = shlex.split(command.removeprefix(verb.command))
    record = verb.record()
    given = read_arguments(verb, record, arguments)
    assert given.problems == ()
    if "resume" not in given.extra:
        settings_from(verb, record, given)


def test_there_are_commands_for_every_verb() -> None:
    assert [
        verb.command for verb in VERBS if not any(f"{typed} ".startswith(f"{verb.command} ") for typed in _commands())
    ] == []


def test_the_first_files_to_read_are_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_]+/[a-z_0-9]+\.(?:py|md))`", text)
    assert len(named) >= 6
    assert [name for name in named if not (PACKAGE / name).is_file() and not (ROOT / name).is_file()] == []
