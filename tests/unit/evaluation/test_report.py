"""The report as a page: whole, closed, without anything from outside, and with every number in it."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from dreambooth.evaluation.report import (
    Confusion,
    Curve,
    PictureRow,
    Pictures,
    Report,
    ScoreRow,
    SubjectPart,
    report_html,
    score_text,
)
from dreambooth.measures.intervals import Score

_VOID = {"meta", "img", "input"}


class Checker(HTMLParser):
    """Every tag that is opened is closed, in order; keeps what a page loads and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "xlink:href")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def checked(markup: str) -> Checker:
    checker = Checker()
    checker.feed(markup)
    checker.close()
    assert checker.open == []
    return checker


def row(name: str, value: float) -> ScoreRow:
    model = Score(name, value, value - 0.01, value + 0.01, "encoder <one>")
    return ScoreRow(
        name, f"What {name} says.", is_higher_better=name == "DINO", model=model, base=replace(model, value=0.111), photos=None
    )


@pytest.fixture
def part() -> SubjectPart:
    small, large = np.full((64, 64, 3), 90, np.uint8), np.full((1024, 1024, 3), 200, np.uint8)
    return SubjectPart(
        name="<sks> one",
        verdict=["The subject <was> learned."],
        scores=[row("DINO", 0.668), row("PRES", 0.412), ScoreRow("drift", "Moved.", False, None, None, None)],
        alarm="Alarm: copies.",
        is_alarming=True,
        pictures=[
            Pictures("Photos", "Small.", [PictureRow("", [small, small])]),
            Pictures("Subject", "Large.", [PictureRow("a <prompt>", [large], [small])]),
        ],
        curves=[Curve("Curve", "A sentence.", {"DINO": {0: 0.1, 5: 0.4}})],
        strengths=[],
        about_strengths="",
    )


@pytest.fixture
def report(part: SubjectPart) -> Report:
    return Report(
        title="What was learned of <sks> & co",
        summary="A summary.",
        confusion=None,
        subjects=[part],
        curves=[Curve("Loss", "Another sentence.", {"photos": {0: 0.2, 5: 0.3}})],
        exposures=[("one.png", 24), ("two.png", 25)],
        facts={"seed": "42"},
        settings="base:\n  model: <toybox>\n",
    )


@pytest.fixture
def joint(report: Report, part: SubjectPart) -> Report:
    """The same page with a second subject, of which there are no curves and no alarm."""
    other = replace(part, name="mwf two", alarm="No alarm.", is_alarming=False, curves=[])
    confusion = Confusion([part.name, other.name], [[0.875, 0.125], [0.0, 1.0]], "encoder <one>")
    return replace(report, confusion=confusion, subjects=[part, other])


def headings(markup: str) -> list[str]:
    return [f"{level} {text}" for level, text in re.findall(r"<h(\d)>(.*?)</h\1>", markup)]


def test_the_page_is_whole_and_loads_nothing(report: Report) -> None:
    markup = report_html(report)
    found = checked(markup)
    assert len(found.loaded) == 4
    assert all(source.startswith("data:image/") for source in found.loaded)
    assert re.findall(r"https?:|<script|@import|url\(", markup) == []
    assert "prefers-color-scheme: dark" in markup


def test_every_number_and_word_is_there(report: Report) -> None:
    text = "\n".join(checked(report_html(report)).text).replace("\u00a0", " ")
    for expected in (
        *("0.668 [0.658, 0.678]", "0.412 [0.402, 0.422]", "0.111 [", "encoder <one>", "What DINO says.", "not measured"),
        *("higher", "lower", "Alarm: copies.", "a <prompt>", "one.png", "24", "two.png", "25", "42", "model: <toybox>"),
    ):
        assert expected in text
    assert "What was learned of <sks> & co" in text


def test_words_of_a_person_are_not_markup(report: Report) -> None:
    markup = report_html(report)
    assert (
        "<sks>" not in markup
        and "<prompt>" not in markup
        and "<one>" not in markup
        and "<toybox>" not in markup
        and "<was>" not in markup
    )


def test_only_an_alarm_looks_like_one(report: Report, part: SubjectPart) -> None:
    assert '<p class="alarm">Alarm: copies.</p>' in report_html(report)
    assert 'class="alarm"' not in report_html(replace(report, subjects=[replace(part, is_alarming=False)]))


def test_one_subject_has_the_page_to_itself(report: Report) -> None:
    assert headings(report_html(report))[1:] == [
        *("2 In short", "2 Photos", "2 Subject", "3 a &lt;prompt&gt;", "2 Scores", "2 Curve"),
        *("2 Loss", "2 How often each photo was seen", "2 How it was measured"),
    ]
    assert "<section>" not in report_html(report)


def test_several_subjects_stand_below_each_other_and_the_run_is_told_once(joint: Report) -> None:
    markup = report_html(joint)
    checked(markup)
    each = ["3 In short", "3 Photos", "3 Subject", "4 a &lt;prompt&gt;", "3 Scores"]
    assert headings(markup)[1:] == [
        *("2 Confusion between subjects", "2 &lt;sks&gt; one", *each, "2 mwf two", *each),
        *("2 &lt;sks&gt; one by step", "3 Curve"),
        *("2 The run", "3 Loss", "3 How often each photo was seen", "3 How it was measured"),
    ]
    assert markup.count("Brackets: 95% confidence interval") == 1
    assert '<p class="alarm">Alarm: copies.</p>' in markup and "<p>No alarm.</p>" in markup


def test_the_base_models_images_stand_beside_the_models(report: Report) -> None:
    alternatives = re.findall(r'alt="([^"]+)"', report_html(report))
    assert alternatives[2:] == ["a &lt;prompt&gt;, base model, 1 of 1", "a &lt;prompt&gt;, this model, 1 of 1"]


def test_every_picture_can_be_enlarged_without_a_script(report: Report) -> None:
    markup = report_html(report)
    assert markup.count('<input type="checkbox" aria-label="Enlarge ') == markup.count("<img") == 4
    assert "figure input:checked + img" in markup


def test_whose_photos_pictures_look_like_is_a_table(joint: Report) -> None:
    markup = report_html(joint)
    rows = re.findall(r"<tr>(.*?)</tr>", markup, re.DOTALL)[:3]
    assert [re.findall(r">([^<]+)</t[hd]>", row) for row in rows] == [
        ["like &lt;sks&gt; one", "like mwf two"],
        ["images of &lt;sks&gt; one", "88%", "12%"],
        ["images of mwf two", "0%", "100%"],
    ]
    assert "Encoder: encoder &lt;one&gt;." in markup


def test_what_nobody_knows_has_no_section(report: Report) -> None:
    markup = report_html(replace(report, exposures=[], settings=""))
    assert "How often each photo was seen" not in markup
    assert "<details>" not in markup


def test_large_pictures_become_smaller_and_small_ones_stay_exact(report: Report) -> None:
    found = re.findall(r"data:image/(\w+);base64,([^\"]+)", report_html(report))
    assert [kind for kind, _ in found] == ["png", "png", "png", "jpeg"]
    sizes = []
    for _, data in found:
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            sizes.append(picture.size)
    assert sizes == [(64, 64), (64, 64), (64, 64), (768, 768)]


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (None, "-"),
        (Score("DINO", 0.7, None, None, "e"), "0.700"),
        (Score("DINO", 0.7, 0.6, 0.8, "e"), "0.700 [0.600, 0.800]"),
        (Score("drift", -1e-9, -0.0004, 0.0, "e"), "0.000 [0.000, 0.000]"),
        (Score("drift", -0.0, None, None, "e"), "0.000"),
        (Score("DINO", -0.0006, None, None, "e"), "-0.001"),
    ],
)
def test_a_cell_says_what_is_known(score: Score | None, text: str) -> None:
    assert score_text(score) == text
