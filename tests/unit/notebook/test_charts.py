"""The chart of losses: where its curves lie, and what it leaves out."""

from __future__ import annotations

import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from dreambooth.notebook.charts import loss_chart
from dreambooth.runs.progress import Curve, Progress


def _progress(photos: Curve = (), class_images: Curve = (), measured: Curve = ()) -> Progress:
    return Progress(
        step=photos[-1][0] if photos else 0,
        losses={"photos": photos, "class": class_images},
        validation={"photos": measured, "class": ()},
        seconds_per_step=None,
        preview_steps=(),
    )


def _points(svg: str) -> list[list[tuple[float, float]]]:
    lines = ElementTree.fromstring(svg).iter("polyline")
    pairs = [[point.split(",") for point in line.attrib["points"].split()] for line in lines]
    return [[(float(x), float(y)) for x, y in line] for line in pairs]


def _texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def _highest(svg: str) -> float:
    """The largest number at the axis."""
    anchored = (element for element in ElementTree.fromstring(svg).iter("text") if element.get("text-anchor") == "end")
    return max(float(element.text or "") for element in anchored if float(element.attrib["x"]) < 60)


def test_steps_go_to_the_right_and_larger_losses_are_higher() -> None:
    (line,) = _points(loss_chart(_progress(photos=((1, 0.5), (2, 0.3), (4, 0.4))), last_step=4))
    (x1, y1), (x2, y2), (x4, y4) = line
    assert x4 - x2 == pytest.approx(2 * (x2 - x1), abs=0.2)
    assert (y4 - y2) / (y1 - y2) == pytest.approx(0.5, abs=0.01)
    assert y1 < y4 < y2, "pixels count downwards"


def test_everything_lies_inside_of_the_picture_and_between_round_numbers() -> None:
    curve = tuple((step, 0.1 + 0.08 * math.sin(step / 7) + 0.3 / step) for step in range(1, 801))
    svg = loss_chart(_progress(photos=curve, measured=((0, 0.21), (800, 0.17))), last_step=800)
    root = ElementTree.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert all(0 <= x <= width and 0 <= y <= height for line in _points(svg) for x, y in line)
    numbers = [float(text) for text in _texts(svg) if re.fullmatch(r"\d\.\d+", text)]
    assert numbers == [0.0, 0.05, 0.1, 0.15, 0.2, 0.25]
    assert [text for text in _texts(svg) if text.isdigit()] == ["0", "200", "400", "600", "800"]


def test_the_first_jumpy_means_of_a_long_curve_are_left_out() -> None:
    long = ((1, 90.0), *((step, 0.1) for step in range(2, 101)))
    assert _highest(loss_chart(_progress(photos=long), last_step=100)) < 1
    short = ((1, 90.0), (2, 0.1))
    assert _highest(loss_chart(_progress(photos=short), last_step=2)) >= 90


def test_thousands_of_steps_stay_quick_to_send_and_end_where_they_end() -> None:
    curve = tuple((step, 0.1 + step / 1e6) for step in range(1, 20001))
    svg = loss_chart(_progress(photos=curve), last_step=20000)
    (line,) = _points(svg)
    assert len(line) <= 401 and len(svg) < 10000
    assert line[-1][0] == pytest.approx(708, abs=0.1)


def test_a_single_point_is_a_dot_and_no_points_are_no_chart() -> None:
    svg = loss_chart(_progress(photos=((1, 0.5),)), last_step=10)
    assert len(list(ElementTree.fromstring(svg).iter("circle"))) == 1
    assert loss_chart(_progress(), last_step=10) == ""


def test_a_loss_that_is_not_finite_is_left_out() -> None:
    svg = loss_chart(_progress(photos=((1, 0.5), (2, math.nan), (3, 0.4))), last_step=3)
    (line,) = _points(svg)
    assert len(line) == 2


def test_the_legend_tells_the_newest_values_of_the_curves_that_are_there() -> None:
    texts: Any = " | ".join(_texts(loss_chart(_progress(photos=((1, 0.5), (2, 0.25)), measured=((0, 0.3),)), last_step=2)))
    assert "photos in training 0.2500" in texts
    assert "photos on fixed noise 0.3000" in texts
    assert "class" not in texts
