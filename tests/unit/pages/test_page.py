"""The parts of a page: charts say what they show, and every text is escaped."""

from __future__ import annotations

import re

import pytest

from dreambooth.pages.page import chart, figure, page, table


def points(markup: str) -> list[list[tuple[float, float]]]:
    """The points of every line of a chart."""
    lines = re.findall(r'points="([^"]*)"', markup)
    return [[tuple(map(float, point.split(","))) for point in line.split()] for line in lines]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ({}, "Not measured."),
        ({"a": {}}, "Not measured."),
        ({"a": {10: 0.5}}, "Measured once: 0.500 at step 10."),
        ({"a": {10: 0.5}, "b": {10: 0.25}}, "Measured once: 0.500 (a), 0.250 (b) at step 10."),
    ],
)
def test_what_was_measured_once_or_never_has_no_chart(lines: dict[str, dict[int, float]], said: str) -> None:
    assert chart(lines) == f"<p>{said}</p>"


def test_lines_lie_where_their_numbers_are() -> None:
    markup = chart({"a": {0: 1.0, 50: 0.0, 100: 0.5}, "b": {50: 2.0}})
    first, second = points(markup)
    (left, one), (middle, zero), (right, half) = first
    assert middle - left == right - middle > 0
    assert zero > half > one, "y points down"
    assert second == [(middle, 10.0)], "the highest of all lines is at the top, at its own step"
    assert one == pytest.approx((zero + 10.0) / 2)
    assert 'aria-label="a: 1.000 at step 0, 0.500 at step 100, lowest 0.000, highest 1.000; b: 2.000 at step 50' in markup
    assert ">a</text>" in markup and ">b</text>" in markup


def test_a_level_line_is_drawn_and_a_rounding_error_is_not_negative() -> None:
    markup = chart({"a": {0: -1e-12, 9: -1e-12}})
    assert len(points(markup)[0]) == 2
    assert "-0.000" not in markup


def test_every_text_is_escaped() -> None:
    words = '<b> & "c"'
    markup = [
        page(words, ""),
        figure(b"x", kind="png", alternative=words, caption=words),
        table([(words, words)], columns=(words,)),
        chart({words: {0: 0.0, 1: 1.0}, "other": {0: 1.0}}),
    ]
    for one in markup:
        assert "<b>" not in one
        assert "&lt;b&gt; &amp; " in one
        assert '"c"' not in one


def test_a_picture_lies_in_the_page() -> None:
    assert 'src="data:image/jpeg;base64,eA=="' in figure(b"x", kind="jpeg", alternative="x")


def test_a_table_fills_the_page_when_it_has_much_to_say() -> None:
    rows = [("a", "1")]
    assert table(rows, columns=("name", "number")).count('<table class="headed"><thead>') == 1
    assert table(rows, columns=("name", "number"), is_wide=False).count("<table><thead>") == 1
    assert "<thead>" not in table(rows) and "headed" not in table(rows)
