"""`python -m dreambooth.web.told VERB ...`: a verb whose words and tables are written as JSON, one record a line."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from dreambooth.cli.flags import read_arguments
from dreambooth.cli.layers import settings_from
from dreambooth.cli.terminal import run_command
from dreambooth.cli.verbs import VERBS
from dreambooth.display_events import EventsDisplay

__all__ = ["told", "told_records"]


def told(arguments: Sequence[str]) -> int:
    """Run a verb; returns the exit code of the command line, which shows an error in the same words."""
    verb = VERBS[arguments[0]]

    def work() -> None:
        record = verb.record()
        settings = settings_from(verb, record, read_arguments(verb, record, arguments[1:]))
        module, _, function = verb.recipe.partition(":")
        getattr(importlib.import_module(module), function)(settings, EventsDisplay(_write))

    return run_command(work)


def told_records(lines: Sequence[str]) -> list[dict[str, Any]]:
    """The sentences, warnings and tables among the lines that such a command wrote."""
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and record.get("event") in ("say", "warn", "table"):
            records.append(_told_record(record))
    return records


def _told_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with every value of its kind; a line of a log may hold anything."""
    if record["event"] != "table":
        return {"event": record["event"], "text": str(record.get("text", ""))}
    columns, rows = record.get("columns"), record.get("rows")
    rows = [row for row in rows if isinstance(row, list)] if isinstance(rows, list) else []
    return {
        "event": "table",
        "title": str(record.get("title", "")),
        "columns": columns if isinstance(columns, list) else [],
        "rows": rows,
    }


def _write(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    raise SystemExit(told(sys.argv[1:]))
