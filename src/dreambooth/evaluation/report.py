"""The report of an evaluation as one page: what the model makes, what was measured, and how it came to be.

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

from dreambooth.evaluation.intervals import CONFIDENCE, Score
from dreambooth.evaluation.page import chart, figure, page, table

__all__ = ["Curve", "Pictures", "Report", "ScoreRow", "report_html", "score_text"]

_LARGEST = 256  # pixels: twice what a picture takes on the page, for screens with fine pixels
_QUALITY = 85
_ABOUT_INTERVALS = (
    f"In brackets the range that holds the true value {CONFIDENCE:.0%} of the time, over other prompts and other noise. "
    "Scores of different encoders do not compare. The photos' own score is what a perfect imitation would reach: above it "
    "pictures are no better, but copies."
)


@dataclass(frozen=True)
class Pictures:
    """Pictures that belong together, in rows that may have a label."""

    title: str
    sentence: str
    rows: Sequence[tuple[str, Sequence[NDArray[np.uint8]]]]


@dataclass(frozen=True)
class ScoreRow:
    """One measure, of the model and of what it is held against."""

    name: str
    meaning: str
    is_higher_better: bool
    model: Score | None
    base: Score | None
    photos: Score | None


@dataclass(frozen=True)
class Curve:
    """Numbers over the steps of training: the name of a line, to its values by step."""

    title: str
    sentence: str
    lines: Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class Report:
    """Everything that the page shows."""

    title: str
    summary: str
    scores: Sequence[ScoreRow]
    alarm: str
    """What was found of copies, in words."""
    is_alarming: bool
    pictures: Sequence[Pictures]
    curves: Sequence[Curve]
    exposures: Sequence[tuple[str, int]]
    """Each photo's name and how often it was seen; empty where nobody knows."""
    facts: Mapping[str, str]
    settings: str
    """The run's own settings as text; empty where there are none."""


def score_text(score: Score | None) -> str:
    """For a cell of a table: 0.668 [0.641, 0.693]; a dash for what was not measured."""
    if score is None:
        return "-"
    if score.low is None or score.high is None:
        return f"{score.value:.3f}"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"


def report_html(report: Report) -> str:
    """The page, which needs nothing but itself."""
    curves = "".join(
        f"<h2>{html.escape(curve.title)}</h2><p>{html.escape(curve.sentence)}</p>{chart(curve.lines)}"
        for curve in report.curves
    )
    settings = f"<details><summary>Settings of the run</summary><pre>{html.escape(report.settings)}</pre></details>"
    alarmed = ' class="alarm"' if report.is_alarming else ""
    body = (
        f"<p>{html.escape(report.summary)}</p>"
        f"<h2>Scores</h2><p>{html.escape(_ABOUT_INTERVALS)}</p>{_scores(report.scores)}"
        f"<p{alarmed}>{html.escape(report.alarm)}</p>"
        f"{''.join(_pictures(one) for one in report.pictures)}{curves}{_exposures(report.exposures)}"
        f"<h2>How it was measured</h2>{table(list(report.facts.items()))}{settings if report.settings else ''}"
    )
    return page(report.title, body)


def _scores(rows: Sequence[ScoreRow]) -> str:
    columns = ("score", "model", "base model", "photos themselves", "better", "what it says", "encoder")
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


def _pictures(shown: Pictures) -> str:
    rows = "".join(_row(shown.title, label, images) for label, images in shown.rows)
    return f"<h2>{html.escape(shown.title)}</h2><p>{html.escape(shown.sentence)}</p>{rows}"


def _row(title: str, label: str, images: Sequence[NDArray[np.uint8]]) -> str:
    above = f"<h3>{html.escape(label)}</h3>" if label else ""
    figures = "".join(
        figure(data, kind=kind, alternative=f"{label or title}, {number} of {len(images)}")
        for number, (kind, data) in enumerate(map(_encoded, images), start=1)
    )
    return f'{above}<div class="row">{figures}</div>'


def _encoded(image: NDArray[np.uint8]) -> tuple[str, bytes]:
    """Kind and bytes of a file: a small picture as it is, a large one made smaller: the page must stay small."""
    picture, buffer = Image.fromarray(image), io.BytesIO()
    if max(picture.size) <= _LARGEST // 2:
        picture.save(buffer, format="PNG")
        return "png", buffer.getvalue()
    picture.thumbnail((_LARGEST, _LARGEST), Image.Resampling.BICUBIC)
    picture.save(buffer, format="JPEG", quality=_QUALITY)
    return "jpeg", buffer.getvalue()


def _exposures(exposures: Sequence[tuple[str, int]]) -> str:
    if not exposures:
        return ""
    return f"<h2>How often each photo was seen</h2>{table([(name, str(times)) for name, times in exposures])}"
