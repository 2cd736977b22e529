"""The numbers of all arms as tables in Markdown: means over subjects, with the interval of drawing other subjects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.photos.arms import ARMS
from experiments.photos.measure import MEASURES
from experiments.results.looking import over_subjects

__all__ = ["tables"]

Numbers = Mapping[tuple[str, str], Mapping[str, Any]]


def tables(numbers: Numbers) -> str:
    """`numbers` maps (arm, subject) to the numbers of each measure. One row for each arm, then the differences."""
    arms = dict.fromkeys(arm for arm, _ in numbers)
    rows = {arm: {name: _values(numbers, arm, name) for name in MEASURES} for arm in arms}
    text = _table("arm", rows, sign="")
    pairs = [(arm, other) for arm in arms if (other := ARMS[arm].compared_with) in arms and other is not None]
    compared = {f"{arm} minus {other}": _differences(numbers, arm, other) for arm, other in pairs}
    return f"{text}\n{_table('difference', compared, sign='+')}" if compared else text


def _values(numbers: Numbers, arm: str, measure: str) -> list[float]:
    return [found[measure]["value"] for (other, _), found in numbers.items() if other == arm]


def _differences(numbers: Numbers, arm: str, other: str) -> dict[str, list[float]]:
    subjects = [name for found, name in numbers if found == arm and (other, name) in numbers]
    return {
        measure: [numbers[arm, name][measure]["value"] - numbers[other, name][measure]["value"] for name in subjects]
        for measure in MEASURES
    }


def _table(title: str, rows: Mapping[str, Mapping[str, list[float]]], *, sign: str) -> str:
    lines = [f"| {title} | {' | '.join(MEASURES)} |", f"|---|{'---|' * len(MEASURES)}"]
    for name, measures in rows.items():
        cells = [_cell(values, f"{name} {measure}", sign) for measure, values in measures.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(values: list[float], key: str, sign: str) -> str:
    found = over_subjects([{"value": value} for value in values], key)
    value, low, high = found["value"], found["low"], found["high"]
    assert value is not None
    return f"{value:{sign}.2f}" if low is None or high is None else f"{value:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"
