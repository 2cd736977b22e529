"""The table of a benchmark: each subject, the mean over subjects, and the paper beside them."""

from __future__ import annotations

from typing import Any

import pytest

from dreambooth.evaluation.benchmark_table import PAPER, SUMMARY_TITLES, as_markdown, benchmark_record, summary_rows


def subject(value: float, **more: float) -> dict[str, Any]:
    def scores(values: dict[str, float]) -> dict[str, Any]:
        return {
            name: {"name": name, "value": one, "low": one - 0.2, "high": one + 0.2, "encoder": f"{name}'s eye"}
            for name, one in values.items()
        }

    return {
        "class_word": "dog",
        "scores": scores({"DINO": value, "PRES": 0.25, **more}),
        "photos": scores({"DINO": 0.9}),
        "copying": 0.125,
        "encoders": {"dino": {"name": "an eye"}, "clip": {"name": "a reader"}, "distance": {"name": "a ruler"}},
    }


FOUND = {"rex": subject(0.5), "bello": subject(0.7), "fido": subject(0.6, DIV=0.4)}


def cells(markdown: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def test_the_mean_and_its_interval_are_over_subjects() -> None:
    mean = benchmark_record(FOUND, {})["mean"]
    assert [*mean] == ["DINO", "PRES"], "not every subject has the others"
    assert mean["DINO"]["value"] == pytest.approx(0.6)
    assert 0.5 <= mean["DINO"]["low"] < 0.6 < mean["DINO"]["high"] <= 0.7
    assert mean["PRES"]["low"] == mean["PRES"]["high"] == pytest.approx(0.25), "subjects that agree leave no doubt"
    assert mean["DINO"]["encoder"] == "DINO's eye"


def test_the_page_has_a_row_for_each_subject_and_the_paper_s() -> None:
    page = as_markdown(benchmark_record(FOUND, {}))
    rows = cells(page)
    assert {len(row) for row in rows.values()} == {8}
    assert rows[""] == ["class", "DINO ↑", "CLIP-I ↑", "CLIP-T ↑", "PRES ↓", "drift ↓", "DIV ↑", "copies ↓"]
    assert rows["fido"] == ["dog", "0.600", "", "", "0.250", "", "0.400", "12%"]
    assert rows["mean of 3"][1].startswith("0.600 [0.5")
    assert rows["the photos themselves"] == ["", "0.900", "", "", "", "", "", ""]
    assert rows["paper, table 1: DreamBooth, Stable Diffusion"] == ["", "0.668", "0.803", "0.305", "", "", "", ""]
    assert rows["paper, table 1: real images"] == ["", "0.774", "0.885", "", "", "", "", ""]
    assert rows["paper, table 3: DreamBooth, Imagen, 15 subjects, with class images"] == [
        *("", "0.684", "0.815", "0.308", "0.493", "", "0.391", "")
    ]
    assert [*rows][-len(PAPER) :] == [f"paper, table {one.table}: {one.name}" for one in PAPER]
    assert "Encoders: an eye for DINO, PRES and drift; a reader for CLIP-I and CLIP-T; a ruler for DIV and copies." in page
    assert "scores from different encoders are not comparable" in page


def test_a_single_subject_has_no_interval() -> None:
    rows = cells(as_markdown(benchmark_record({"rex": subject(0.5)}, {})))
    assert rows["mean of 1"][1] == "0.500"


def test_the_terminal_shows_the_means_alone() -> None:
    dino, pres = summary_rows(benchmark_record(FOUND, {}))
    assert len(dino) == len(SUMMARY_TITLES)
    assert (dino[0], dino[1], *dino[3:]) == ("DINO", "0.600", "0.900", "0.668", "higher")
    assert pres == ("PRES", "0.250", "0.250 to 0.250", "", "", "lower")
    assert summary_rows(benchmark_record({"rex": subject(0.5)}, {}))[0][2] == ""
