"""The report of an evaluation as one page: images, scores, curves and settings.

Images are numpy arrays, uint8, (height, width, 3).
"""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dreambooth.measures.intervals import CONFIDENCE, Score
from dreambooth.pages.page import chart, figure, number_text, page, table

__all__ = ["Confusion", "Curve", "Pictures", "Report", "ScoreRow", "SubjectPart", "report_html", "score_text"]

_LARGEST = 256  # pixels: twice the size on the page, for high-resolution screens
_QUALITY = 85
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
class Pictures:
    """A group of images, in rows that may have a label."""

    title: str
    sentence: str
    rows: Sequence[tuple[str, Sequence[NDArray[np.uint8]]]]


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


@dataclass(frozen=True)
class Confusion:
    """Confusion between subjects: for each subject's images, the shares that look most like each subject's photos."""

    names: Sequence[str]
    shares: Sequence[Sequence[float]]
    """Row i, column j: the share of subject i's images that look most like photos of subject j."""
    encoder: str


@dataclass(frozen=True)
class SubjectPart:
    """What the page shows of one subject."""

    name: str
    scores: Sequence[ScoreRow]
    alarm: str
    """The sentence about copies."""
    is_alarming: bool
    pictures: Sequence[Pictures]
    curves: Sequence[Curve]


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
        return number_text(score.value)
    return f"{number_text(score.value)} [{number_text(score.low)}, {number_text(score.high)}]"


def report_html(report: Report) -> str:
    """The self-contained page. A single subject fills the page; several have a section each."""
    if len(report.subjects) == 1:
        (part,) = report.subjects
        shown = f"{_subject(part, level=2, is_first=True)}{_curves(part.curves, level=2)}{_run(report, level=2)}"
    else:
        shown = f"{_sections(report.subjects)}{_section('The run', _run(report, level=3))}"
    return page(report.title, f"<p>{html.escape(report.summary)}</p>{_confusion(report.confusion)}{shown}")


def _confusion(found: Confusion | None) -> str:
    if found is None:
        return ""
    rows = [
        (f"images of {name}", *(f"{share:.0%}" for share in shares))
        for name, shares in zip(found.names, found.shares, strict=True)
    ]
    marked = table(rows, columns=("", *(f"like {name}" for name in found.names)), is_wide=False)
    about = f"{_ABOUT_CONFUSION} Encoder: {found.encoder}."
    return f"{_heading('Confusion between subjects', 2)}<p>{html.escape(about)}</p>{marked}"


def _sections(parts: Sequence[SubjectPart]) -> str:
    shown = [(one.name, _subject(one, level=3, is_first=one is parts[0])) for one in parts]
    drawn = [(f"{one.name} by step", _curves(one.curves, level=3)) for one in parts if one.curves]
    return "".join(_section(title, markup) for title, markup in [*shown, *drawn])


def _section(title: str, markup: str) -> str:
    return f"<section>{_heading(title, 2)}{markup}</section>"


def _subject(part: SubjectPart, *, level: int, is_first: bool) -> str:
    about = f"<p>{html.escape(_ABOUT_INTERVALS)}</p>" if is_first else ""
    alarmed = ' class="alarm"' if part.is_alarming else ""
    return (
        f"{_heading('Scores', level)}{about}{_scores(part.scores)}<p{alarmed}>{html.escape(part.alarm)}</p>"
        f"{''.join(_pictures(one, level=level) for one in part.pictures)}"
    )


def _run(report: Report, *, level: int) -> str:
    """The part that is the same for all subjects."""
    settings = f"<details><summary>Settings of the run</summary><pre>{html.escape(report.settings)}</pre></details>"
    return (
        f"{_curves(report.curves, level=level)}{_exposures(report.exposures, level=level)}"
        f"{_heading('How it was measured', level)}{table(list(report.facts.items()))}{settings if report.settings else ''}"
    )


def _heading(text: str, level: int) -> str:
    return f"<h{level}>{html.escape(text)}</h{level}>"


def _curves(curves: Sequence[Curve], *, level: int) -> str:
    return "".join(
        f"{_heading(curve.title, level)}<p>{html.escape(curve.sentence)}</p>{chart(curve.lines)}" for curve in curves
    )


def _scores(rows: Sequence[ScoreRow]) -> str:
    columns = ("score", "model", "base model", "photos", "better", "meaning", "encoder")
    return table(
        [
            (
                row.name,
                *(_unbroken(score_text(score)) for score in (row.model, row.base, row.photos)),
                "higher" if row.is_higher_better else "lower",
                row.meaning,
                row.model.encoder if row.model is not None else "not measured",
            )
            for row in rows
        ],
        columns=columns,
    )


def _unbroken(text: str) -> str:
    return text.replace(" ", "\u00a0")


def _pictures(shown: Pictures, *, level: int) -> str:
    rows = "".join(_row(shown.title, label, images, level=level + 1) for label, images in shown.rows)
    return f"{_heading(shown.title, level)}<p>{html.escape(shown.sentence)}</p>{rows}"


def _row(title: str, label: str, images: Sequence[NDArray[np.uint8]], *, level: int) -> str:
    above = _heading(label, level) if label else ""
    figures = "".join(
        figure(data, kind=kind, alternative=f"{label or title}, {number} of {len(images)}")
        for number, (kind, data) in enumerate(map(_encoded, images), start=1)
    )
    return f'{above}<div class="row">{figures}</div>'


def _encoded(image: NDArray[np.uint8]) -> tuple[str, bytes]:
    """Kind and bytes of an image file: small images unchanged, large ones reduced to keep the page small."""
    picture, buffer = Image.fromarray(image), io.BytesIO()
    if max(picture.size) <= _LARGEST // 2:
        picture.save(buffer, format="PNG")
        return "png", buffer.getvalue()
    picture.thumbnail((_LARGEST, _LARGEST), Image.Resampling.BICUBIC)
    picture.save(buffer, format="JPEG", quality=_QUALITY)
    return "jpeg", buffer.getvalue()


def _exposures(exposures: Sequence[tuple[str, int]], *, level: int) -> str:
    if not exposures:
        return ""
    return f"{_heading('How often each photo was seen', level)}{table([(name, str(times)) for name, times in exposures])}"
