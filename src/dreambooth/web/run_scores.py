"""The scores of a run's steps as tables: those that `dreambooth evaluate` wrote, and those of its training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dreambooth.display import format_score
from dreambooth.measures.balance import best
from dreambooth.reading import read_json
from dreambooth.runs.events import read_events
from dreambooth.runs.folder import RunFolder
from dreambooth.web.places import shown_text

__all__ = [
    "best_step",
    "evaluated_scores",
    "score_tables",
    "scores_file",
    "scores_of_step",
    "trained_scores",
    "with_short_paths",
]

_COLUMNS = {"fidelity": "DINO", "prompt": "CLIP-T", "prior": "PRES"}
_AFTERWARDS, _WHILE_TRAINING = "Scores of the finished run", "Scores while training"


def score_tables(run: RunFolder) -> list[dict[str, Any]]:
    """The tables of a run as plain values, the most telling first; empty for a run without scores.

    A table has a `title`, the sentences `said` by the program, the `best` step or None, and a row for each step, whose scores
    are texts with their intervals.
    """
    return [*evaluated_scores(run), *trained_scores(run)]


def with_short_paths(tables: Sequence[Mapping[str, Any]], *, projects: Path) -> list[dict[str, Any]]:
    """The tables with the paths in their sentences as a page shows them; `projects` is the folder of all projects."""
    return [{**table, "said": [shown_text(sentence, projects=projects) for sentence in table["said"]]} for table in tables]


def best_step(tables: Sequence[Mapping[str, Any]]) -> int | None:
    """The best step by the first table that names one."""
    return next((table["best"] for table in tables if table["best"] is not None), None)


def scores_of_step(tables: Sequence[Mapping[str, Any]], step: int) -> dict[str, Any] | None:
    """The row of a step in the first table that has it."""
    return next((row for table in tables for row in table["rows"] if row["step"] == step), None)


def scores_file(run: RunFolder) -> Path:
    """Where `dreambooth evaluate` writes the scores of a run."""
    return run.path / "evaluation" / "scores.json"


def evaluated_scores(run: RunFolder) -> list[dict[str, Any]]:
    """What `dreambooth evaluate` found, a table for each subject; empty where it was not run, or its file is damaged."""
    try:
        record = read_json(scores_file(run))
        records = record.get("subjects") or {"": record}
        return [_evaluated(name, one) for name, one in records.items()]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return []


def trained_scores(run: RunFolder) -> list[dict[str, Any]]:
    """What was measured while training, of several subjects their means and then each; empty without --evaluate-every."""
    events = read_events(run.events)
    scored = {event["step"]: event for event in events if event["event"] == "evaluation"}
    if not scored:
        return []
    balances = {step: event["balance"] for step, event in scored.items() if step > 0}
    said = [f"{event['text']}." for event in events if event["event"] == "selection" and "text" in event][-1:]
    peak = best(balances) if balances else None
    if not said and peak is not None:
        said = [f"Best step so far: {peak}, with a balance of {format_score(balances[peak])}."]
    whole = _table(_WHILE_TRAINING, said, peak, (_trained_row(step, scored[step]) for step in sorted(scored)))
    names = dict.fromkeys(name for event in scored.values() for name in event.get("subjects", {}))
    return [whole, *(_subject_table(name, scored) for name in names)]


def _subject_table(name: str, scored: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    found = {step: event["subjects"][name] for step, event in scored.items() if name in event.get("subjects", {})}
    return _table(f"{_WHILE_TRAINING}: {name}", [], None, (_trained_row(step, found[step]) for step in sorted(found)))


def _evaluated(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    named = record.get("best_step")
    by_step = {int(step): one for step, one in record["by_step"].items()} or {int(record["step"]): _only(record)}
    rows = (_evaluated_row(step, by_step[step]) for step in sorted(by_step))
    said = [*map(str, record.get("verdict", ())), *([] if named is None else [str(named["text"])])]
    title = f"{_AFTERWARDS}: {name}" if name else _AFTERWARDS
    return _table(title, said, None if named is None else int(named["step"]), rows)


def _only(record: Mapping[str, Any]) -> dict[str, Any]:
    """The step of a run that has no other models."""
    return {"scores": record["scores"]["model"], "copying": record["copying"], "balance": None}


def _evaluated_row(step: int, found: Mapping[str, Any]) -> dict[str, Any]:
    scores = {str(one["name"]): one for one in found["scores"]}
    balance, copying = found.get("balance"), found.get("copying")
    return {
        "step": step,
        "balance": "-" if balance is None else format_score(float(balance["value"])),
        **{column: _with_interval(scores.get(name)) for column, name in _COLUMNS.items()},
        "copies": "-" if copying is None else f"{float(copying['share']):.0%}",
    }


def _trained_row(step: int, event: Mapping[str, Any]) -> dict[str, Any]:
    values, intervals = event["scores"], event.get("intervals")
    intervals = intervals if isinstance(intervals, dict) else {}
    texts = {}
    for column, name in _COLUMNS.items():
        low, high = _interval(intervals.get(name))
        texts[column] = _with_interval({"value": values[name], "low": low, "high": high} if name in values else None)
    copies = _number(event.get("copies"))
    return {
        "step": step,
        "balance": format_score(event["balance"]),
        **texts,
        "copies": "-" if copies is None else f"{copies:.0%}",
    }


def _interval(value: object) -> tuple[float | None, float | None]:
    low, high = map(_number, value) if isinstance(value, list) and len(value) == 2 else (None, None)
    return low, high


def _number(value: object) -> float | None:
    """A number; None for anything else that a damaged file may hold."""
    return float(value) if isinstance(value, int | float) else None


def _with_interval(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return "-"
    low, high = score["low"], score["high"]
    interval = "" if low is None or high is None else f" [{format_score(low)}, {format_score(high)}]"
    return f"{format_score(score['value'])}{interval}"


def _table(title: str, said: Sequence[str], peak: int | None, rows: Iterator[dict[str, Any]]) -> dict[str, Any]:
    return {"title": title, "said": list(said), "best": peak, "rows": list(rows)}
