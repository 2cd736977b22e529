"""Charts say what they show, and lie where their numbers are."""

from __future__ import annotations

import math
import re

import pytest

from dreambooth.pages.chart import Line, chart


def points(markup: str) -> list[list[tuple[float, float]]]:
    """The points of every line of a chart."""
    lines = re.findall(r'points="([^"]*)"', markup)
    return [[tuple(map(float, point.split(","))) for point in line.split()] for line in lines]


def axis(markup: str) -> dict[float, float]:
    """The height in pixels of each number at the axis of values."""
    texts = re.findall(r'<text x="46" y="([\d.]+)" text-anchor="end">([-\d.]+)</text>', markup)
    return {float(number): float(y) - 4 for y, number in texts}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ({}, "Not measured."),
        ({"a": {}}, "Not measured."),
        ({"a": {3: math.nan}}, "Not measured."),
        ({"a": {10: 0.5}}, "Measured once: 0.500 at step 10."),
        ({"a": {10: 0.5}, "<b>": {10: 0.25}}, "Measured once: 0.500 (a), 0.250 (&lt;b&gt;) at step 10."),
    ],
)
def test_what_was_measured_once_or_never_has_no_chart(lines: dict[str, dict[int, float]], said: str) -> None:
    assert chart([Line(name, values) for name, values in lines.items()]) == f"<p>{said}</p>"


def test_lines_lie_where_their_numbers_are() -> None:
    markup = chart([Line("a", {0: 1.0, 50: 0.0, 100: 0.5}), Line("b", {50: 2.0, 100: 1.5})])
    first, second = points(markup)
    (left, one), (middle, zero), (right, half) = first
    assert middle - left == right - middle > 0
    assert zero > half > one, "y points down"
    assert one == pytest.approx((zero + second[0][1]) / 2), "2 is twice as high as 1"
    assert [axis(markup)[number] for number in (0.0, 0.5, 1.0, 1.5, 2.0)] == pytest.approx(
        [zero, half, one, second[1][1], second[0][1]]
    )
    assert 'aria-label="a: 1.000 at step 0, 0.500 at step 100, lowest 0.000, highest 1.000; b: 2.000 at step 50' in markup
    assert ">a</text>" in markup and ">b</text>" in markup


def test_the_axis_begins_at_zero_so_that_small_changes_look_small() -> None:
    markup = chart([Line("a", {0: 0.80, 10: 0.82})])
    assert min(axis(markup)) == 0
    ((_, first), (_, last)) = points(markup)[0]
    heights = axis(markup)
    assert (first - last) / (heights[0.0] - first) == pytest.approx(0.02 / 0.80, abs=0.005)


def test_values_below_zero_have_room() -> None:
    markup = chart([Line("a", {0: -0.3, 10: 0.2})])
    assert min(axis(markup)) <= -0.3 and max(axis(markup)) >= 0.2


def test_a_level_line_is_drawn_and_a_rounding_error_is_not_negative() -> None:
    markup = chart([Line("a", {0: -1e-12, 9: -1e-12})])
    assert len(points(markup)[0]) == 2
    assert "-0.000" not in markup


def test_a_long_legend_takes_a_second_row_inside_of_the_picture() -> None:
    markup = chart([Line(f"a rather long name of line {number}", {0: 1.0, 1: 2.0}) for number in range(4)])
    places = [(float(x), float(y)) for x, y in re.findall(r'<text x="([\d.]+)" y="([\d.]+)">a rather', markup)]
    height = float(re.findall(r'viewBox="0 0 720 ([\d.]+)"', markup)[0])
    assert len({y for _, y in places}) == 2
    assert all(y < height for _, y in places)
    assert (places[-1][0] == places[0][0]) == (places[-1][1] > places[-2][1])
