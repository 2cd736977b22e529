"""What is wrong with photos, captions and class images: collected, shown as one table, raised at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dreambooth.errors import PhotoError

__all__ = ["PROBLEM_COLUMNS", "PhotoProblem", "problem_rows", "raise_if_errors"]

PROBLEM_COLUMNS = ("file", "problem", "what to do")
"""Headings of the rows that `problem_rows` gives."""


@dataclass(frozen=True)
class PhotoProblem:
    """One thing that is wrong: where, how badly, what, and what to do.

    An error keeps the work from starting; a warning tells of something that works but was hardly meant.
    """

    path: Path
    severity: Literal["error", "warning"]
    message: str
    advice: str


def problem_rows(problems: Iterable[PhotoProblem]) -> list[tuple[str, str, str]]:
    """Rows (file, problem, what to do) for one table: all errors, then all warnings, each in the order given."""
    ordered = sorted(problems, key=lambda problem: problem.severity != "error")
    return [(str(problem.path), f"{problem.severity}: {problem.message}", problem.advice) for problem in ordered]


def raise_if_errors(problems: Iterable[PhotoProblem]) -> None:
    """Raise one PhotoError that lists every error among `problems`; do nothing when there are only warnings."""
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise PhotoError(
            [f"{problem.path}: {problem.message}. {problem.advice}" for problem in errors],
            hint="Nothing was started. Fix or remove the files listed above, then run the same command again.",
        )
