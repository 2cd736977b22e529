"""`dreambooth benchmark` on one subject of the small world, from rendered photos to the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreambooth.cli.main import main
from dreambooth.evaluation import choose_encoders as encoders
from dreambooth.toybox.files import EYE_FILE
from experiments.toybox.parts import embedded_family

Capture = pytest.CaptureFixture[str]

SHORT = ["--steps", "2", "--num-images", "1", "--num-class-images", "2", "--sampling-steps", "2"]


@pytest.mark.slow
def test_a_subject_is_learned_shown_and_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    if not EYE_FILE.is_file():
        monkeypatch.setattr(
            encoders, "embedded_eye", lambda *, device: encoders.embedded_clip(embedded_family(), device=device)
        )
    typed = ["benchmark", "--dataset", "toybox", "--quick", "--subjects", "zigzag-mug", *SHORT, "--output", str(tmp_path / "b")]
    assert main(typed) == 0
    record = json.loads((tmp_path / "b" / "benchmark.json").read_text(encoding="utf-8"))
    assert [*record["mean"]] == ["DINO", "CLIP-I", "CLIP-T", "PRES", "drift"], "one picture of a prompt has no DIV"
    assert 1e-6 < record["mean"]["drift"]["value"] < 1
    assert record["asked"]["training"]["loop"]["steps"] == 2
    assert "| zigzag-mug | mug | 0." in (tmp_path / "b" / "benchmark.md").read_text(encoding="utf-8")
    assert len([*(tmp_path / "b" / "subjects" / "zigzag-mug" / "pictures").glob("*.png")]) == 12 + 2
    assert "Benchmark of 1 subject in" in capsys.readouterr().out
    assert main(typed) == 0
    assert ": 0 to do" in capsys.readouterr().out


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path, capsys: Capture) -> None:
    assert main(["benchmark", "--dataset", str(tmp_path), "--model", "sd.ckpt", "--output", str(tmp_path / "b")]) == 2
    said = capsys.readouterr().err
    assert "prompts_and_classes.txt: no such file" in said
    assert "https://github.com/google/dreambooth" in said
    assert not (tmp_path / "b").exists()
