"""The page for those who come from the original programs has a word on every option and key, and its commands can be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from dreambooth.compat import prune, training_flags, txt2img
from dreambooth.compat.arguments import read_arguments
from dreambooth.compat.config_keys import _RULES
from dreambooth.compat.main import read_job

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "from-the-original.md").read_text(encoding="utf-8")
PROGRAMS = {"main.py": training_flags.FLAGS, "scripts/stable_txt2img.py": txt2img.FLAGS, "scripts/prune_ckpt.py": prune.FLAGS}
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "main.py", *(ROOT / "configs").rglob("*.yaml")]


def _section(program: str) -> str:
    """The rows of one program's tables."""
    parts = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    return "".join(part for part in parts if part.startswith(f"`{program}`"))


@pytest.mark.parametrize(("program", "name"), [(program, flag.name) for program, flags in PROGRAMS.items() for flag in flags])
def test_every_option_has_a_row(program: str, name: str) -> None:
    rows = [line for line in _section(program).splitlines() if line.startswith("|")]
    assert any(re.search(rf"`[^`]*--{re.escape(name)}\b", row) for row in rows)


@pytest.mark.parametrize("key", [key for key, rule in _RULES.items() if rule.kind in ("sets", "idle") and "*" not in key])
def test_every_key_with_an_effect_and_every_one_that_never_had_one_is_named(key: str) -> None:
    assert f"{key.rpartition('.')[2]}`" in _section("main.py")


def _typed() -> list[str]:
    texts = [page.read_text(encoding="utf-8").replace("# ", "") for page in PAGES]
    lines = [line.strip() for text in texts for line in re.sub(r"\\\n\s*", " ", text).splitlines()]
    return list(dict.fromkeys(line for line in lines if line.startswith("python main.py ")))


def test_commands_are_found() -> None:
    assert len(_typed()) == 2


@pytest.mark.parametrize("command", _typed())
def test_every_command_can_be_typed(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    job = read_job(read_arguments("python main.py", "", training_flags.FLAGS, shlex.split(command)[2:]))
    assert job.problems == () and job.settings is not None
