"""What a folder was made from is held against what is asked now, and a damaged memory is told of."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth.errors import RunError, SettingsError
from dreambooth.runs.remembered import check_remembered


def test_differences_within_are_told_by_their_dotted_keys(tmp_path: Path) -> None:
    path = tmp_path / "asked.json"
    check_remembered(path, {"training": {"loop": {"steps": 3, "seed": 1}, "words": ["a"]}, "more": None}, hint="Elsewhere.")
    with pytest.raises(SettingsError) as caught:
        check_remembered(path, {"training": {"loop": {"steps": 4, "seed": 1}, "words": ["a"], "new": 5}}, hint="Elsewhere.")
    assert caught.value.problems == (
        f"training.loop.steps is 4, and {path} says 3",
        f"training.new is 5, and {path} says None",
    )
    with pytest.raises(SettingsError, match=r"training\.loop\.seed is None, and .*asked\.json says 1"):
        check_remembered(path, {"training": {"loop": {"steps": 3}, "words": ["a"]}}, hint="Elsewhere.")


@pytest.mark.parametrize("text", ["{", "{}", "[1]", "\xff"])
def test_a_folder_whose_memory_is_damaged_is_told_of(tmp_path: Path, text: str) -> None:
    path = tmp_path / "asked.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(RunError, match=r"asked\.json: ") as caught:
        check_remembered(path, {"steps": 1}, hint="Elsewhere.")
    assert caught.value.hint == "Elsewhere. Or remove that file, if nothing has changed since."
