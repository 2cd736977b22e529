"""The parts of a page: every text is escaped, and nothing that is missing is passed over."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from dreambooth.pages.chart import Line, chart
from dreambooth.pages.templates import render, render_part

WORDS = "<script>alert(1)</script> & \"c\" 'd'"


@pytest.mark.parametrize(
    "markup",
    [
        pytest.param(lambda: render("page.html", title=WORDS), id="page"),
        pytest.param(lambda: render_part("parts.html", "figure", "data:", WORDS, WORDS), id="figure"),
        pytest.param(lambda: render_part("parts.html", "figures", ["data:"], WORDS, [WORDS]), id="figures"),
        pytest.param(lambda: render_part("parts.html", "table", [(WORDS, WORDS)], (WORDS, WORDS)), id="table"),
        pytest.param(lambda: chart([Line(WORDS, {0: 0.0, 1: 1.0}), Line("other", {0: 1.0})]), id="chart"),
        pytest.param(lambda: render_part("cell.html", "note", WORDS), id="note"),
        pytest.param(lambda: render_part("cell.html", "table", [WORDS], [[WORDS]]), id="cell table"),
        pytest.param(lambda: render_part("cell.html", "captioned", WORDS, WORDS, 9), id="captioned"),
        pytest.param(lambda: render_part("cell.html", "picture_rows", [(WORDS, [WORDS])], [WORDS], 9), id="picture rows"),
        pytest.param(lambda: render_part("cell.html", "bar", 1, 2, WORDS), id="bar"),
    ],
)
def test_every_text_is_escaped(markup: object) -> None:
    text = str(markup())  # type: ignore[operator]
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;c&#34; &#39;d&#39;" in text
    assert "<script" not in text and '"c"' not in text and "'d'" not in text


def test_a_value_that_is_missing_is_an_error_and_not_an_empty_place() -> None:
    with pytest.raises(UndefinedError, match="'title' is undefined"):
        render("page.html")


def test_a_table_fills_the_page_when_it_has_much_to_say() -> None:
    rows = [("a", "1")]
    wide = render_part("parts.html", "table", rows, ("name", "number"))
    assert '<table class="headed">' in wide and '<td data-label="number">1</td>' in wide
    narrow = render_part("parts.html", "table", rows, ("name", "number"), is_wide=False)
    assert "<thead>" in narrow and "headed" not in narrow
    assert "<thead>" not in render_part("parts.html", "table", rows)
