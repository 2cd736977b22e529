"""The seam to the notebook."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from dreambooth.notebook import showing
from dreambooth.notebook.markup import note, table
from dreambooth.notebook.showing import Area, find_widgets


class _Handle:
    def __init__(self) -> None:
        self.updates: list[str] = []

    def update(self, thing: Any) -> None:
        self.updates.append(thing.data)


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    real_import = builtins.__import__

    def without_widgets(name: str, *rest: Any) -> Any:
        if name == "ipywidgets":
            raise ImportError(name)
        return real_import(name, *rest)

    monkeypatch.setattr(showing, "show", shown.append)
    monkeypatch.setattr(builtins, "__import__", without_widgets)
    assert find_widgets() is None
    assert "pip install" in shown[0] and "ipywidgets" in shown[0]


def test_the_same_html_is_not_sent_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = _Handle()
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: handle)
    area = Area("one")
    for markup in ("one", "two", "two", "three"):
        area.update(markup)
    assert handle.updates == ["two", "three"]


def test_text_is_never_taken_for_html() -> None:
    assert "&lt;b&gt;" in note("<b>")
    assert "&lt;script&gt;" in table(("file",), [("<script>",)])
