"""What is said of an evaluation that was stopped."""

from __future__ import annotations

from pathlib import Path

from dreambooth.recipes.evaluate import stopped_text


def test_pictures_are_only_promised_where_there_are_some(tmp_path: Path) -> None:
    (tmp_path / "pictures" / "model").mkdir(parents=True)
    assert stopped_text(tmp_path) == "Stopped before the first image was generated; run the same command to start again."
    (tmp_path / "pictures" / "model" / "a-00-0.png").touch()
    assert stopped_text(tmp_path).startswith(f"Stopped. The images generated so far are in {tmp_path};")
