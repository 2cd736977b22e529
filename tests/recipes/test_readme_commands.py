"""Every command of the README, typed in order in one folder, as a newcomer would.

The bundled model stands in for the one that would be downloaded, and the work is cut short. A command that is not typed
here is named by a rule that says why; a command that no rule knows fails the test, and so does a rule that nothing needs.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from dreambooth.cli.main import main

ROOT = Path(__file__).parents[2]

SKIPPED = {
    r"python3 -m venv \.venv": "makes an environment: .ci/run does it with make",
    r"source \.venv/bin/activate": "a command of the shell",
    r"dreambooth demo": ".ci/run types it as make demo",
    r"pip install -c constraints\.txt -e .*": "uses the network: .ci/run does it with make",
}
REPLACED = {
    "--model stable-diffusion-v1-5/stable-diffusion-v1-5": "--model toybox",
    "--steps 1200": "--steps 3",
    "--steps 1600": "--steps 2",
    "--evaluate-every 100": "--evaluate-every 1 --evaluation-images 1 --evaluation-sampling-steps 2",
}
SHORTENED = {
    "dreambooth train --model": "--preset toybox --steps 2 --num-prior-images 2 --prior-sampling-steps 2 --preview-steps 0 "
    "--validation-steps 0",
    "dreambooth generate": "--sampling-steps 2",
    "dreambooth evaluate": "--num-images 1 --num-class-images 2 --num-checkpoint-images 0 --sampling-steps 2",
}
CHANGED = "dreambooth train --preset runs/rex/config.yaml --output runs/NEW"


def commands() -> list[str]:
    """Each command of the README's code blocks, one line each, without comments, and those of its table of changes."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:sh|powershell)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == text.count("\n```") // 2, "a code block is neither sh nor powershell"
    lines = [re.sub(r"(^|\s+)# .*", "", line) for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    before = lines.index("dreambooth evaluate --model runs/rex")
    return [line for line in [*lines[:before], *changes(text), *lines[before:]] if line]


def changes(text: str) -> list[str]:
    """The table of changes as commands, each with an output of its own."""
    table = text.split(f"`{CHANGED}`")[1].split("\n\n")[1]
    flags = re.findall(r"\| `(--.*)` \|$", table, re.MULTILINE)
    assert len(flags) == len(table.splitlines()) - 2 == 7
    return [f"{CHANGED.replace('NEW', f'change-{number}')} {added}" for number, added in enumerate(flags, start=1)]


def typed(command: str) -> str:
    """The command as it is typed here."""
    for text, other in REPLACED.items():
        command = command.replace(text, other)
    shorter = [flags for start, flags in SHORTENED.items() if command.startswith(start)]
    return " ".join([command, *shorter])


@pytest.fixture
def folder(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the README takes for granted: photos of one subject, of another one, and of two."""
    for place in ("rex", "mug", "both/sks/dog", "both/mwf/cat"):
        shutil.copytree(photos, tmp_path / "photos" / place)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_is_typed_or_skipped_for_a_reason() -> None:
    written = commands()
    skipped = [rule for rule in SKIPPED if any(re.fullmatch(rule, command) for command in written)]
    assert skipped == list(SKIPPED)
    rest = [command for command in written if not any(re.fullmatch(rule, command) for rule in SKIPPED)]
    assert [command for command in rest if not command.startswith("dreambooth ")] == []
    assert [text for text in REPLACED if not any(text in command for command in rest)] == []
    assert [start for start in SHORTENED if not any(typed(command).startswith(start) for command in rest)] == []


@pytest.mark.slow
def test_the_commands_work_in_this_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands():
        if any(re.fullmatch(rule, command) for rule in SKIPPED):
            continue
        code = main(shlex.split(typed(command))[1:])
        said = capsys.readouterr()
        assert code == 0, f"{typed(command)}\n{said.out}\n{said.err}"
    made = ["runs/rex", *(f"runs/change-{number}" for number in range(1, 8))]
    assert [run for run in made if not (folder / run / "model.safetensors").is_file()] == []
    assert (folder / "rex.ckpt").is_file()
    names = [path.name for path in (folder / "pictures").glob("*.png")]
    assert len([name for name in names if "-grid-" in name]) == 2
    assert len([name for name in names if "-grid-" not in name]) == 8
    assert (folder / "runs" / "rex" / "evaluation" / "report.html").is_file()
