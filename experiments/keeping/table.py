"""The numbers of all variants as a table in Markdown: means over subjects, with the interval of drawing other subjects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.results.looking import over_subjects

__all__ = ["table"]

_COLUMNS = {
    **{name: name for name in ("DINO", "PRES", "drift", "DIV", "DINO in places")},
    "place by the judge": "places",
    "unseen place": "unseen places",
    "colour by the judge": "colors",
    "unseen color": "unseen colors",
}
"""Measures and their titles."""


def table(numbers: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """`numbers` maps (variant, subject) to the numbers of each measure; one row for each variant."""
    variants = dict.fromkeys(variant for variant, _ in numbers)
    lines = [f"| variant | {' | '.join(_COLUMNS.values())} |", f"|---|{'---|' * len(_COLUMNS)}"]
    for variant in variants:
        ones = [found for (other, _), found in numbers.items() if other == variant]
        cells = [_cell(over_subjects([one[name] for one in ones], f"{variant} {name}")) for name in _COLUMNS]
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(found: Mapping[str, float | None]) -> str:
    value, low, high = found["value"], found["low"], found["high"]
    assert value is not None
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"
