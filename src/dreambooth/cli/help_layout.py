"""Help layout: the look of cyclopts, with room for the longest flag on 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cyclopts.help import AsteriskRenderer, ColumnSpec, DefaultFormatter, DescriptionRenderer, NameRenderer

__all__ = ["help_layout"]

_NAME_WIDTH = 30  # cyclopts' own 35 % of 80 columns would break long flags in the middle of a word


def help_layout() -> DefaultFormatter:
    """Return the formatter of a verb's help."""
    return DefaultFormatter(column_specs=_columns)


def _columns(console: Any, options: Any, entries: Sequence[Any]) -> tuple[ColumnSpec, ...]:
    required = ColumnSpec(renderer=AsteriskRenderer(), width=1, style="red bold")
    name = ColumnSpec(renderer=NameRenderer(max_width=_NAME_WIDTH), max_width=_NAME_WIDTH, style="cyan")
    description = ColumnSpec(renderer=DescriptionRenderer(), overflow="fold")
    return (required, name, description) if any(entry.required for entry in entries) else (name, description)
