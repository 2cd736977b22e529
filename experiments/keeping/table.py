"""The numbers of all variants as a table in Markdown: means over subjects, with the interval of drawing other subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.keeping.variants import DIFFUSERS, LORA, PRESET
from experiments.results.looking import over_subjects

__all__ = ["difference_table", "table"]

_COLUMNS = {
    **{name: name for name in ("DINO", "PRES", "drift", "DIV", "DINO in places")},
    "place by the judge": "places",
    "unseen place": "unseen places",
    "colour by the judge": "colors",
    "unseen color": "unseen colors",
}
"""Measures and their titles."""

_COMPARED = (
    ("photos-varied-w10", "none"),
    ("photos-varied-w10", "noise"),
    ("both-varied-w10", "noise"),
    ("photos-varied-w10", DIFFUSERS),
    ("both-varied-w10", DIFFUSERS),
    (PRESET, "noise"),
    (PRESET, DIFFUSERS),
    (LORA, "noise"),
    (LORA, DIFFUSERS),
)


def table(numbers: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """`numbers` maps (variant, subject) to the numbers of each measure; one row for each variant."""
    return _rows(
        "variant",
        {
            variant: {name: [one[name] for one in _of(numbers, variant).values()] for name in _COLUMNS}
            for variant in dict.fromkeys(variant for variant, _ in numbers)
        },
    )


def difference_table(numbers: Mapping[tuple[str, str], Mapping[str, Any]], pairs: Sequence[tuple[str, str]] = _COMPARED) -> str:
    """The differences between two variants, subject by subject, which cancels what is common to them; empty without both."""
    compared = {}
    for variant, other in pairs:
        ours, theirs = _of(numbers, variant), _of(numbers, other)
        if both := ours.keys() & theirs.keys():
            compared[f"{variant} minus {other}"] = {
                name: [{"value": ours[subject][name]["value"] - theirs[subject][name]["value"]} for subject in sorted(both)]
                for name in _COLUMNS
            }
    return _rows("difference", compared, sign="+") if compared else ""


def _of(numbers: Mapping[tuple[str, str], Mapping[str, Any]], variant: str) -> dict[str, Mapping[str, Any]]:
    return {subject: found for (other, subject), found in numbers.items() if other == variant}


def _rows(title: str, rows: Mapping[str, Mapping[str, list[dict[str, Any]]]], *, sign: str = "") -> str:
    lines = [f"| {title} | {' | '.join(_COLUMNS.values())} |", f"|---|{'---|' * len(_COLUMNS)}"]
    for name, measures in rows.items():
        cells = [_cell(over_subjects(scores, f"{name} {measure}"), sign) for measure, scores in measures.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(found: Mapping[str, float | None], sign: str) -> str:
    value, low, high = found["value"], found["low"], found["high"]
    assert value is not None
    return f"{value:{sign}.2f}" if low is None or high is None else f"{value:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"
