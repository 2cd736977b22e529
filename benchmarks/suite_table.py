"""The outcomes of the suite as a readable table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

__all__ = ["table"]

_COLUMNS = ("job", "status", "ms", "10% - 90%", "images/s", "of peak", "GB", "predicted", "reserved", "first s", "notes")


class _Job(Protocol):
    name: str


class _Outcome(Protocol):
    @property
    def job(self) -> Any: ...
    @property
    def status(self) -> str: ...
    @property
    def records(self) -> list[dict[str, Any]]: ...
    @property
    def message(self) -> str: ...


def table(outcomes: Sequence[_Outcome]) -> str:
    """One line per record, and one per job without records; columns are padded to their widest cell."""
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for outcome in outcomes:
        rows.extend(_row(outcome, record) for record in outcome.records or [{}])
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _row(outcome: _Outcome, record: dict[str, Any]) -> tuple[str, ...]:
    span = f"{record['ms_10']:.2f} - {record['ms_90']:.2f}" if "ms_10" in record else ""
    first = record.get("first_ms")
    return (
        outcome.job.name,
        outcome.status,
        _number(record.get("ms"), 2),
        span,
        _number(record.get("images_per_s"), 2),
        _number(record.get("share_of_matmul_peak"), 3),
        _number(record.get("peak_allocated_gb"), 2),
        _number(record.get("predicted_peak_gb"), 2),
        _number(record.get("peak_reserved_gb"), 2),
        _number(None if first is None else first / 1000, 1),
        _notes(outcome, record),
    )


def _number(value: Any, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _notes(outcome: _Outcome, record: dict[str, Any]) -> str:
    """Further values of a record; for a failed job, the last line of its output."""
    what = record.get("what")
    if what == "matmul":
        return f"{record['matmul_tflops']:.1f} TFLOP/s in {record['matmul_dtype']}"
    if what == "smoke":
        if record["is_near"] is None:
            return f"{record['precision']}: {record['skipped_because']}"
        return f"{record['precision']}: off by {record['difference']:.1e}, {'near' if record['is_near'] else 'TOO FAR'}"
    if "scaled_seconds" in record:
        return f"{record['scaled_seconds']:.1f} s at full length (scaled, not measured)"
    return next(reversed(outcome.message.splitlines()), "")[:100]
