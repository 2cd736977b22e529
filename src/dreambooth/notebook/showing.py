"""The interface to the notebook: the only module that uses IPython's display and ipywidgets, imported on first use."""

from __future__ import annotations

from typing import Any

from dreambooth.notebook.markup import note

__all__ = ["Area", "find_widgets", "show"]

_WITHOUT_WIDGETS = (
    "ipywidgets is not installed. Everything works without it; use the variables above instead.\n"
    "To install it, run  pip install 'ipywidgets>=8'  and restart the kernel."
)


class Area:
    """A part of a cell's output whose HTML can be replaced."""

    def __init__(self, markup: str) -> None:
        from IPython.display import HTML, display

        self._markup = markup
        self._handle: Any = display(HTML(markup), display_id=True)

    def update(self, markup: str) -> None:
        """Replace the HTML; nothing is sent when it is unchanged."""
        from IPython.display import HTML

        if markup != self._markup and self._handle is not None:
            self._handle.update(HTML(markup))
        self._markup = markup


def show(thing: object) -> None:
    """Append HTML (given as text) or a widget to the cell's output."""
    from IPython.display import HTML, display

    display(HTML(thing) if isinstance(thing, str) else thing)


def find_widgets() -> Any | None:
    """The module ipywidgets; if it is not installed, show how to install it and return None."""
    try:
        import ipywidgets
    except ImportError:
        show(note(_WITHOUT_WIDGETS))
        return None
    return ipywidgets
