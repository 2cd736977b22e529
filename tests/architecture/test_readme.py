"""The README tells the truth: its commands can be typed, and its tree is the source.

`python tests/architecture/test_readme.py` writes the tree again: lines keep their order, words come from the docstrings, new
modules go to the end of their room.
"""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from dreambooth.cli.flags import read_arguments
from dreambooth.cli.layers import settings_from
from dreambooth.cli.verbs import PROGRAMS
from dreambooth.recipes import settings as records

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PACKAGE = ROOT / "src" / "dreambooth"
ROOMS = [
    "cli",
    "compat",
    "notebook",
    "recipes",
    "weights",
    "families",
    "data",
    "trainees",
    "memory.py",
    "runtime",
    "diffusion",
    "training",
    "sampling",
    "evaluation",
    "toybox",
    "pretraining",
]
WIDTH = 124
_TYPED = r"(dreambooth|python -m dreambooth\.toybox) [a-z]+( |$)"


VERBS = [verb for program in PROGRAMS.values() for verb in program.verbs.values()]


def _commands() -> list[str]:
    pages = [README, *sorted((ROOT / "docs").glob("*.md"))]
    texts = [*(page.read_text(encoding="utf-8") for page in pages), *("\n".join(verb.examples) for verb in VERBS)]
    lines = [line.strip() for text in texts for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in dict.fromkeys(lines) if re.match(_TYPED, line) and "...`" not in line]


@pytest.mark.parametrize("command", [command for command in _commands() if "--help" not in command])
def test_every_command_can_be_typed(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "runs" / "rex"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("base: {model: a}\nsubject: {photos: b, class_word: dog}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    verb = next(verb for verb in VERBS if f"{command} ".startswith(f"{verb.command} "))
    arguments = shlex.split(command.removeprefix(verb.command))
    record = getattr(records, verb.settings)
    given = read_arguments(verb, record, arguments)
    assert given.problems == ()
    if "resume" not in given.extra:
        settings_from(verb, record, given)


def test_there_are_commands_for_every_verb() -> None:
    assert [
        verb.command for verb in VERBS if not any(f"{typed} ".startswith(f"{verb.command} ") for typed in _commands())
    ] == []


def _summary(path: Path, width: int) -> str:
    """The first sentence of a module's docstring, cut after one of its parts when it is too long for a line."""
    sentence = re.split(r"(?<=[a-z)`])\.(?:\s|$)", ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")[0]
    sentence = " ".join(sentence.split())
    for separator in ("; ", ": ", ", "):
        while len(sentence) > width and separator in sentence:
            sentence = sentence.rpartition(separator)[0]
    return sentence


def _modules() -> dict[str, str]:
    """Path below the package to its line, in the order of the rooms; package files without content are left out."""
    places = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")]
    places = [place for place in places if not place.endswith("__init__.py")]
    column = max(map(len, places)) + 2
    order = {room: number for number, room in enumerate(ROOMS)}
    places.sort(key=lambda place: (order.get(place.split("/")[0], len(order)), place))
    return {place: f"    {place:<{column}}{_summary(PACKAGE / place, WIDTH - column - 4)}" for place in places}


def _tree() -> list[str]:
    _, _, below = README.read_text(encoding="utf-8").partition("<!-- tree -->\n")
    return [line for line in below.splitlines() if line.startswith("    ")]


def test_the_tree_is_the_source() -> None:
    written = {line.split()[0]: line for line in _tree()}
    current = _modules()
    assert sorted(set(current) ^ set(written)) == [], f"type: python {Path(__file__).relative_to(ROOT)}"
    assert [line for place, line in written.items() if line != current[place]] == [], f"type: python {Path(__file__).name}"


def test_the_first_files_to_read_are_there() -> None:
    text = README.read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_]+/[a-z_0-9]+\.(?:py|md))`", text)
    assert len(named) >= 6
    assert [name for name in named if not (PACKAGE / name).is_file() and not (ROOT / name).is_file()] == []


def _rewrite() -> None:
    above, marker, _ = README.read_text(encoding="utf-8").partition("<!-- tree -->\n")
    current = _modules()
    kept = [line.split()[0] for line in _tree() if line.split()[0] in current]
    room_of: Any = {place: place.split("/")[0] for place in current}
    rooms = dict.fromkeys(room_of[place] for place in current)
    places = [place for room in rooms for place in dict.fromkeys([*kept, *current]) if room_of[place] == room]
    README.write_text(above + marker + "\n" + "".join(f"{current[place]}\n" for place in places), encoding="utf-8")


if __name__ == "__main__":
    _rewrite()
