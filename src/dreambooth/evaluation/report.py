"""The report of an evaluation as one page: images, scores, curves and settings.

Images are numpy arrays, uint8, (height, width, 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dreambooth.display import format_score
from dreambooth.measures.intervals import CONFIDENCE, Score
from dreambooth.pages.chart import Line, chart
from dreambooth.pages.images import inline_image
from dreambooth.pages.templates import Markup, render

__all__ = [
    "STRENGTH_COLUMNS",
    "Confusion",
    "Curve",
    "PictureRow",
    "Pictures",
    "Report",
    "ScoreRow",
    "SubjectPart",
    "report_html",
    "score_text",
]

STRENGTH_COLUMNS = ("strength", "balance", "fidelity", "prompt", "prior")
_SCORE_COLUMNS = ("score", "model", "base model", "photos", "better", "meaning", "encoder")
_ABOUT_INTERVALS = (
    f"Brackets: {CONFIDENCE:.0%} confidence interval over prompts and seeds. Scores from different encoders are not "
    "comparable. The photos' own score is what a perfect likeness would reach: images above it are not better, but copies."
)
_ABOUT_CONFUSION = (
    "Each row holds the images generated for one subject: the share that looks most like the photos of each subject. The "
    "diagonal counts images that resemble their own subject; the others resemble another one. A column whose sum exceeds 100% "
    "is a subject that leaks into others."
)


@dataclass(frozen=True)
class PictureRow:
    """Images of one prompt, beside the base model's images from the same seeds where there are any."""

    label: str
    """Empty if the group's title says it."""
    images: Sequence[NDArray[np.uint8]]
    base_images: Sequence[NDArray[np.uint8]] = ()

    @property
    def sources(self) -> list[str]:
        """The images as data URIs."""
        return [inline_image(image) for image in self.images]

    @property
    def before(self) -> list[str]:
        """The base model's images as data URIs."""
        return [inline_image(image) for image in self.base_images]


@dataclass(frozen=True)
class Pictures:
    """A group of images in rows."""

    title: str
    sentence: str
    rows: Sequence[PictureRow]


@dataclass(frozen=True)
class ScoreRow:
    """One score, of the model and of what it is compared with."""

    name: str
    meaning: str
    is_higher_better: bool
    model: Score | None
    base: Score | None
    photos: Score | None


@dataclass(frozen=True)
class Curve:
    """Values by training step; `lines` maps the name of a line to its values."""

    title: str
    sentence: str
    lines: Mapping[str, Mapping[int, float]]

    @property
    def chart(self) -> Markup:
        """The lines as a drawing."""
        return chart([Line(name, values) for name, values in self.lines.items()])


@dataclass(frozen=True)
class Confusion:
    """Confusion between subjects: for each subject's images, the shares that look most like each subject's photos."""

    names: Sequence[str]
    shares: Sequence[Sequence[float]]
    """Row i, column j: the share of subject i's images that look most like photos of subject j."""
    encoder: str

    @property
    def columns(self) -> list[str]:
        """The heads of the table."""
        return ["", *(f"like {name}" for name in self.names)]

    @property
    def rows(self) -> list[list[str]]:
        """The rows of the table, with a name first."""
        shares = zip(self.names, self.shares, strict=True)
        return [[f"images of {name}", *(f"{share:.0%}" for share in row)] for name, row in shares]


@dataclass(frozen=True)
class SubjectPart:
    """What the page shows of one subject."""

    name: str
    verdict: Sequence[str]
    """What the scores say, in sentences."""
    scores: Sequence[ScoreRow]
    alarm: str
    """The sentence about copies."""
    is_alarming: bool
    pictures: Sequence[Pictures]
    curves: Sequence[Curve]
    strengths: Sequence[Sequence[str]]
    """Rows of the table of strengths; empty unless asked for."""
    about_strengths: str

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The rows of the table of scores; columns as in `_SCORE_COLUMNS`."""
        return [
            (
                row.name,
                *(_unbroken(score_text(score)) for score in (row.model, row.base, row.photos)),
                "higher" if row.is_higher_better else "lower",
                row.meaning,
                row.model.encoder if row.model is not None else "not measured",
            )
            for row in self.scores
        ]


@dataclass(frozen=True)
class Report:
    """Everything that the page shows."""

    title: str
    summary: str
    confusion: Confusion | None
    """None for a single subject."""
    subjects: Sequence[SubjectPart]
    curves: Sequence[Curve]
    """Curves of the whole run."""
    exposures: Sequence[tuple[str, int]]
    """Each photo's name and how often it was seen; empty if unknown."""
    facts: Mapping[str, str]
    settings: str
    """The run's settings as text; empty if there are none."""


def score_text(score: Score | None) -> str:
    """Text of a table cell: 0.668 [0.641, 0.693]; a dash if it was not measured."""
    if score is None:
        return "-"
    if score.low is None or score.high is None:
        return format_score(score.value)
    return f"{format_score(score.value)} [{format_score(score.low)}, {format_score(score.high)}]"


def report_html(report: Report) -> str:
    """The self-contained page. A single subject fills the page; several have a section each."""
    return render(
        "report.html",
        title=report.title,
        report=report,
        about_intervals=_ABOUT_INTERVALS,
        about_confusion=_ABOUT_CONFUSION,
        score_columns=_SCORE_COLUMNS,
        strength_columns=STRENGTH_COLUMNS,
    )


def _unbroken(text: str) -> str:
    return text.replace(" ", "\u00a0")
