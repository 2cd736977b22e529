"""Tables of the photos' problems and captions, shown before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from dreambooth.data.pictures import Pictures
from dreambooth.data.problems import PROBLEM_COLUMNS, PhotoProblem, problem_rows
from dreambooth.data.records import CaptionedPhoto
from dreambooth.display import Display

__all__ = ["show_captions", "show_warnings"]

_MOST_ROWS = 12


def show_warnings(problems: Iterable[PhotoProblem], display: Display) -> None:
    """Show one table of the warnings; nothing if there are none. Errors are not among them: they are raised, and told then."""
    if warnings := [problem for problem in problems if problem.severity == "warning"]:
        display.table("Images", PROBLEM_COLUMNS, problem_rows(warnings))


def show_captions(pictures: Pictures, display: Display) -> None:
    """Show how many photos and class images have each caption."""
    for name, images in (("photos", pictures.photos), ("class images", pictures.given_priors)):
        if images:
            display.table("Captions", ("caption", name), _caption_rows(images))


def _caption_rows(images: Sequence[CaptionedPhoto]) -> list[tuple[str, str]]:
    """Captions in the order of their images; the last row counts those that do not fit."""
    counts = list(Counter(caption for one in images for caption in one.captions).items())
    rows = [(caption, str(num)) for caption, num in counts[:_MOST_ROWS]]
    if more := counts[_MOST_ROWS:]:
        rows.append((f"and {len(more)} more", str(sum(num for _, num in more))))
    return rows
