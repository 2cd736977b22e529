"""Which folders a new run may be written into."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth.errors import RunError
from dreambooth.files import partial_of
from dreambooth.runs.lock import LOCK_NAME
from dreambooth.trainer.preflight import _check_output_is_free


def test_what_a_run_left_that_was_killed_while_it_wrote_its_first_file_is_no_other_file(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).touch()
    partial_of(tmp_path / "config.yaml", "ab").write_text("base:", encoding="utf-8")
    _check_output_is_free(tmp_path)
    (tmp_path / "letter.txt").touch()
    with pytest.raises(RunError, match="already holds other files"):
        _check_output_is_free(tmp_path)
