"""The table of a benchmark: each subject, the mean with its interval over subjects, and the paper's rows for comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from dreambooth.evaluation.evaluator import MEASURES
from dreambooth.measures.intervals import CONFIDENCE, Score, score

__all__ = ["PAPER", "SUMMARY_TITLES", "PaperRow", "as_markdown", "benchmark_record", "summary_rows"]

SUMMARY_TITLES = ("score", "mean", "interval", "photos", "paper (Stable Diffusion)", "better")

_COPIES = "copies"
_SEED = 0
_PAPER_OF_STABLE_DIFFUSION = 1  # the row of PAPER


@dataclass(frozen=True)
class PaperRow:
    """Scores from the paper (Ruiz et al., "DreamBooth", CVPR 2023) by name."""

    name: str
    table: int
    scores: Mapping[str, float]


PAPER = (
    PaperRow("real images", 1, {"DINO": 0.774, "CLIP-I": 0.885}),
    PaperRow("DreamBooth, Stable Diffusion", 1, {"DINO": 0.668, "CLIP-I": 0.803, "CLIP-T": 0.305}),
    PaperRow("DreamBooth, Imagen", 1, {"DINO": 0.696, "CLIP-I": 0.812, "CLIP-T": 0.306}),
    PaperRow("Textual Inversion, Stable Diffusion", 1, {"DINO": 0.569, "CLIP-I": 0.780, "CLIP-T": 0.255}),
    PaperRow(
        "DreamBooth, Imagen, 15 subjects, with class images",
        3,
        {"DINO": 0.684, "CLIP-I": 0.815, "CLIP-T": 0.308, "PRES": 0.493, "DIV": 0.391},
    ),
    PaperRow(
        "DreamBooth, Imagen, 15 subjects, without",
        3,
        {"DINO": 0.712, "CLIP-I": 0.828, "CLIP-T": 0.306, "PRES": 0.664, "DIV": 0.371},
    ),
)
"""Rows for comparison; only meaningful with the same encoders."""


def benchmark_record(found: Mapping[str, Mapping[str, Any]], asked: Mapping[str, Any]) -> dict[str, Any]:
    """All scores of the finished subjects, at least one, and their means, as plain values for JSON."""
    return {
        "asked": dict(asked),
        "subjects": dict(found),
        "mean": {one.name: asdict(one) for one in _means(found.values(), "scores")},
        "photos": {one.name: asdict(one) for one in _means(found.values(), "photos")},
        "confidence": CONFIDENCE,
        "encoders": next(iter(found.values()))["encoders"],
        "paper": [asdict(row) for row in PAPER],
    }


def summary_rows(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row per score, narrow enough for a terminal; the column titles are SUMMARY_TITLES."""
    paper, photos = PAPER[_PAPER_OF_STABLE_DIFFUSION].scores, record["photos"]
    has_interval = len(record["subjects"]) > 1
    return [
        (
            one.name,
            f"{mean['value']:.3f}",
            f"{mean['low']:.3f} to {mean['high']:.3f}" if has_interval else "",
            f"{photos[one.name]['value']:.3f}" if one.name in photos else "",
            f"{paper[one.name]:.3f}" if one.name in paper else "",
            "higher" if one.is_higher_better else "lower",
        )
        for one in MEASURES
        if (mean := record["mean"].get(one.name)) is not None
    ]


def as_markdown(record: Mapping[str, Any]) -> str:
    """A row per subject, the means, then the paper's rows, with the encoders and notes for reading it."""
    arrows = [f"{one.name} {'↑' if one.is_higher_better else '↓'}" for one in MEASURES]
    titles = ("", "class", *arrows, f"{_COPIES} ↓")
    lines = [titles, ("---",) * len(titles), *_rows(record)]
    encoders = record["encoders"]
    return "\n".join(
        [
            *(f"| {' | '.join(cells)} |" for cells in lines),
            "",
            f"Encoders: {encoders['dino']['name']} for DINO, PRES and drift; {encoders['clip']['name']} for CLIP-I and CLIP-T; "
            f"{encoders['distance']['name']} for DIV and copies.",
            f"Brackets: {record['confidence']:.0%} bootstrap confidence interval of the mean over subjects.",
            "The paper's rows are its own numbers, measured with DINO ViT-S/16, an unnamed CLIP and LPIPS: "
            "scores from different encoders are not comparable.",
            "",
        ]
    )


def _rows(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows = [
        (name, one["class_word"], *_cells(one["scores"]), "" if one["copying"] is None else f"{one['copying']:.0%}")
        for name, one in record["subjects"].items()
    ]
    num = len(rows)
    rows.append((f"mean of {num}", "", *_cells(record["mean"], has_interval=num > 1), ""))
    rows.append(("the photos themselves", "", *_cells(record["photos"]), ""))
    for paper in PAPER:
        scores = {name: {"value": value} for name, value in paper.scores.items()}
        rows.append((f"paper, table {paper.table}: {paper.name}", "", *_cells(scores), ""))
    return rows


def _means(found: Iterable[Mapping[str, Any]], group: str) -> list[Score]:
    """The mean over subjects of each score that all of them have; the interval resamples subjects, not images."""
    ones: Sequence[Mapping[str, Any]] = [one[group] for one in found]
    names = [one.name for one in MEASURES if all(one.name in scores for scores in ones)]
    return [
        score(name, torch.tensor([[one[name]["value"]] for one in ones]), encoder=ones[0][name]["encoder"], seed=_SEED)
        for name in names
    ]


def _cells(scores: Mapping[str, Mapping[str, Any]], *, has_interval: bool = False) -> list[str]:
    return [_cell(scores.get(one.name), has_interval=has_interval) for one in MEASURES]


def _cell(one: Mapping[str, Any] | None, *, has_interval: bool) -> str:
    if one is None:
        return ""
    return f"{one['value']:.3f}" + (f" [{one['low']:.3f}, {one['high']:.3f}]" if has_interval else "")
