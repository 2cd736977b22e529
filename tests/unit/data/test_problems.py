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


def test_many_files_with_one_warning_have_one_row() -> None:
    many = [PhotoProblem(Path(f"a/{index}.npz"), "warning", "is not an image; skipped", "Nothing.") for index in range(20)]
    few = [PhotoProblem(Path(f"b/{index}.npz"), "warning", "is not an image; skipped", "Nothing.") for index in range(3)]
    errors = [PhotoProblem(Path(f"c/{index}.jpg"), "error", "is empty", "Copy it.") for index in range(20)]
    rows = problem_rows([*many, *few, *errors])
    assert len(rows) == 20 + 1 + 3
    assert rows[20] == ("20 files in a, such as 0.npz", "warning: is not an image; skipped", "Nothing.")


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
