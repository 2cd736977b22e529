"""What is wrong with photos, captions and class images: collected, shown as one table, raised at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dreambooth.errors import PhotoError

__all__ = ["PROBLEM_COLUMNS", "PhotoProblem", "problem_rows", "raise_if_errors"]

_MOST_ROWS = 6

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
    subject: str = ""
    """The subject whose photo it is, as a prompt names it, where a run has several."""

    @property
    def place(self) -> str:
        """The file, and the subject where there are several."""
        return f"{self.path} ({self.subject})" if self.subject else str(self.path)


def problem_rows(problems: Iterable[PhotoProblem]) -> list[tuple[str, str, str]]:
    """Rows (file, problem, what to do) for one table: all errors, then all warnings, each in the order given.

    Many files of one folder with the same warning have one row.
    """
    ordered = sorted(problems, key=lambda problem: problem.severity != "error")
    same = Counter(_same(problem) for problem in ordered)
    rows: dict[PhotoProblem, tuple[str, str, str]] = {}
    for problem in ordered:
        place, num = problem.place, same[_same(problem)]
        if problem.severity == "warning" and num > _MOST_ROWS:
            folder = replace(problem, path=problem.path.parent).place
            place = f"{num} files in {folder}, such as {problem.path.name}"
            rows.setdefault(_same(problem), (place, f"warning: {problem.message}", problem.advice))
        else:
            rows[problem] = (place, f"{problem.severity}: {problem.message}", problem.advice)
    return list(rows.values())


def _same(problem: PhotoProblem) -> PhotoProblem:
    """The same for all files of a folder with the same problem."""
    return replace(problem, path=problem.path.parent)


def raise_if_errors(problems: Iterable[PhotoProblem]) -> None:
    """Raise one PhotoError that lists every error among `problems`; do nothing when there are only warnings."""
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise PhotoError(
            [f"{problem.place}: {problem.message}. {problem.advice}" for problem in errors],
            hint="Nothing was started. Fix or remove the files listed above, then run the same command again.",
        )
