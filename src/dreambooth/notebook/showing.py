"""The seam to the notebook: the only place that knows IPython and ipywidgets, both loaded when they are first needed."""

from __future__ import annotations

from typing import Any

from dreambooth.notebook.markup import note

__all__ = ["Area", "find_widgets", "show"]

_WITHOUT_WIDGETS = (
    "The widgets are not installed; everything works without them, through the plain variables above.\n"
    "To have them:  pip install 'ipywidgets>=8'  and restart the kernel."
)


class Area:
    """A place in a cell's output whose HTML can be exchanged."""

    def __init__(self, markup: str) -> None:
        from IPython.display import HTML, display

        self._markup = markup
        self._handle: Any = display(HTML(markup), display_id=True)

    def update(self, markup: str) -> None:
        """Show other HTML in its place; nothing is sent when it is the same."""
        from IPython.display import HTML

        if markup != self._markup and self._handle is not None:
            self._handle.update(HTML(markup))
        self._markup = markup


def show(thing: object) -> None:
    """Show HTML, given as text, or a widget below what the cell has shown so far."""
    from IPython.display import HTML, display

    display(HTML(thing) if isinstance(thing, str) else thing)


def find_widgets() -> Any | None:
    """The library of widgets; None, after saying how to get it, where it is not installed."""
    try:
        import ipywidgets
    except ImportError:
        show(note(_WITHOUT_WIDGETS))
        return None
    return ipywidgets
