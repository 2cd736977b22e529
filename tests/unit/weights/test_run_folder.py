from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth.errors import ModelFileError
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_model
from dreambooth.weights.write import write_single_file


def test_a_run_folder_is_its_model(tiny: ModelWeights, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    write_single_file(tmp_path / "model.safetensors", tiny, dtype=None, metadata={})
    found = read_model(str(tmp_path))
    assert found.digest() == tiny.digest()
    assert (found.report.form, found.report.source) == ("run folder", tmp_path)


def test_an_unfinished_run_says_how_to_finish_it(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ModelFileError, match=r"this run has not written its final model yet") as caught:
        read_model(str(tmp_path))
    assert f"dreambooth train --resume {tmp_path}" in str(caught.value.hint)


@pytest.mark.parametrize("made", ["checkpoints", "status.json"])
def test_the_command_that_finishes_a_run_can_be_typed(made: str, tmp_path: Path) -> None:
    (tmp_path / "my runs" / made).mkdir(parents=True)
    (tmp_path / "my runs" / "config.yaml").touch()
    if made == "status.json":
        (tmp_path / "my runs" / made).rmdir()
        (tmp_path / "my runs" / made).touch()
    with pytest.raises(ModelFileError) as caught:
        read_model(str(tmp_path / "my runs"))
    assert f"(dreambooth train --resume '{tmp_path}/my runs')" in str(caught.value.hint)
