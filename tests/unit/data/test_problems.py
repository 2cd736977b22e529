from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth.data.problems import PROBLEM_COLUMNS, PhotoProblem, problem_rows, raise_if_errors
from dreambooth.errors import PhotoError

WARNING = PhotoProblem(Path("a.jpg"), "warning", "is small", "Use a larger one.")
FIRST = PhotoProblem(Path("b.jpg"), "error", "is empty (0 bytes)", "Copy it again.")
SECOND = PhotoProblem(Path("c.jpg"), "error", "is not a picture", "Remove it.")


def test_rows_show_errors_first_and_keep_the_order() -> None:
    rows = problem_rows([WARNING, SECOND, FIRST])
    assert rows == [
        ("c.jpg", "error: is not a picture", "Remove it."),
        ("b.jpg", "error: is empty (0 bytes)", "Copy it again."),
        ("a.jpg", "warning: is small", "Use a larger one."),
    ]
    assert len(PROBLEM_COLUMNS) == len(rows[0])


def test_all_errors_are_raised_together() -> None:
    with pytest.raises(PhotoError) as caught:
        raise_if_errors([FIRST, WARNING, SECOND])
    assert caught.value.text == (
        "- b.jpg: is empty (0 bytes). Copy it again.\n"
        "- c.jpg: is not a picture. Remove it.\n"
        "Nothing was started. Fix or remove the files listed above, then run the same command again."
    )


def test_warnings_stop_nothing() -> None:
    raise_if_errors([WARNING])
    raise_if_errors([])
