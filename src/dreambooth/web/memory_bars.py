"""The predicted memory of each preset as bars, from the table that `dreambooth plan` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

__all__ = ["memory_bars"]

_FITS = {"yes": "fits", "no": "does not fit", "": "for another type of device"}


def memory_bars(records: Sequence[Mapping[str, Any]], *, chosen: str) -> list[dict[str, Any]]:
    """A bar for each preset: its peak in GiB, its share of the largest peak in percent, and whether it fits.

    Empty where `records`, what the command said, hold no such table.
    """
    bars = []
    for record in records:
        columns = list(record.get("columns", ()))
        if not {"preset", "peak", "fits"} <= set(columns):
            continue
        for row in record["rows"]:
            named = dict(zip(columns, row, strict=False))
            with suppress(ValueError, KeyError):
                bars.append({"preset": named["preset"], "gib": float(named["peak"]), "fits": named["fits"]})
    largest = max((bar["gib"] for bar in bars), default=0.0)
    return [
        {
            **bar,
            "percent": round(100 * bar["gib"] / largest, 1) if largest > 0 else 0.0,
            "fits": _FITS.get(bar["fits"], bar["fits"]),
            "is_chosen": bar["preset"] == chosen,
        }
        for bar in bars
    ]
