"""`experiments.keeping`: variants are valid commands, a row continues with the model before, tables say what was kept."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from dreambooth.cli.flags import read_arguments
from dreambooth.cli.layers import settings_from
from dreambooth.cli.verbs import VERBS
from dreambooth.runs.folder import RunFolder
from dreambooth.schema.verbs import TrainSettings
from experiments.keeping import rows
from experiments.keeping.__main__ import main
from experiments.keeping.frontier import frontier
from experiments.keeping.measure import measure
from experiments.keeping.table import difference_table, table
from experiments.keeping.variants import DIFFUSERS, PRESET, VARIANTS
from experiments.results import runs
from experiments.results.runs import Place, Scale

VALUES = {
    "DINO": 0.5,
    "PRES": 0.25,
    "drift": 0.125,
    "DIV": 4.0,
    "DINO in places": 0.5,
    "place by the judge": 1.0,
    "colour by the judge": 0,
    "unseen place": 1.0,
    "unseen color": 0.0,
}


_DRIFTS = (("noise", "a", 0.5), ("noise", "b", 0.75), (PRESET, "a", 0.25), (PRESET, "b", 0.5))


def numbers(**other: float) -> dict[str, dict[str, float]]:
    return {name: {"value": value, "low": value, "high": value} for name, value in {**VALUES, **other}.items()}


def settings_of(*flags: str) -> TrainSettings:
    verb = VERBS["train"]
    record = verb.record()
    given = ["--preset", "toybox", "--photos", "photos", "--class-word", "mug", *flags]
    settings: TrainSettings = settings_from(verb, record, read_arguments(verb, record, given))
    return settings


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_says_all_of_the_prior(variant: str) -> None:
    settings = settings_of(*VARIANTS[variant])
    prior, rate = settings.prior, settings.trainee.text_encoder_learning_rate
    assert (prior.prior_weight == 10) == ("w10" in variant)
    assert (prior.prior_prompts == "varied") == ("varied" in variant)
    assert (prior.prior_examples != "images") == variant.startswith(("photos", "both"))
    if settings.trainee.train_text_encoder and "text" not in variant:
        assert rate == settings.optimizer.learning_rate, "one rate for all, as in the paper"


def test_the_preset_is_one_of_the_variants() -> None:
    assert settings_of(*VARIANTS[PRESET]) == settings_of("--prior-target", "prediction")


def test_a_table_has_means_over_subjects() -> None:
    text = table({("noise", "a"): numbers(), ("noise", "b"): numbers(DINO=1.0), ("none", "a"): numbers(DIV=3.0)})
    header, _, noise, none = text.splitlines()
    assert header.startswith("| variant | DINO | PRES | drift | DIV |")
    assert noise.startswith("| noise | 0.75 [0.50, 1.00] | 0.25 [0.25, 0.25] |")
    assert "| 3.00 |" in none


@pytest.mark.slow
def test_the_loop_of_diffusers_is_measured_as_the_variants_are(tmp_path: Path) -> None:
    scale = Scale(steps=2, sampling_steps=2, num_prior_images=2, prior_sampling_steps=2, num_class_images=2, num_images=2)
    found = measure(tmp_path, DIFFUSERS, "belted-vase", scale)
    assert 0 < found["drift"]["value"] < 1, "it was trained"
    assert found.keys() >= numbers().keys()
    assert 0 <= found["unseen place"]["value"] <= 1


def test_differences_are_taken_subject_by_subject() -> None:
    found = {(variant, name): numbers(drift=drift) for variant, name, drift in _DRIFTS}
    _, _, row = difference_table(found).splitlines()
    assert row.startswith(f"| {PRESET} minus noise | +0.00 [+0.00, +0.00] | +0.00 [+0.00, +0.00] | -0.25 [-0.25, -0.25] |")
    assert difference_table({("noise", "a"): numbers()}) == ""


def test_a_row_begins_each_subject_with_the_model_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed: list[list[str]] = []

    def run(arguments: list[str]) -> int:
        typed.append(arguments)
        folder = RunFolder(Path(arguments[arguments.index("--output") + 1]))
        folder.path.mkdir(parents=True)
        folder.final_model.touch()
        return 0

    monkeypatch.setattr(runs, "main", run)
    place = Place(tmp_path)
    last = rows._learn(place, Scale(steps=4), ("marked-ball", "belted-vase", "crossed-teapot"))
    assert [Path(one[one.index("--output") + 1]) for one in typed] == [
        tmp_path / "runs" / PRESET / "marked-ball",
        tmp_path / "runs" / "rows" / "marked-ball+belted-vase",
        last,
    ]
    assert "--model" not in typed[0] and "--token" not in typed[0]
    bases = [Path(one[one.index("--model") + 1]).name for one in typed[1:]]
    assert bases == ["marked-ball", "marked-ball+belted-vase"]
    assert [one[one.index("--token") + 1] for one in typed[1:]] == ["zwx", "mwf"]
    assert not any("--no-replay" in one for one in typed)
    rows._learn(place, Scale(steps=4), ("marked-ball", "belted-vase"))
    assert len(typed) == 3, "nothing is trained twice"


def test_a_row_table_says_what_is_left_of_each_subject() -> None:
    ball, vase = ({"value": value, "low": value, "high": value} for value in (0.8, 0.6))
    later = {"value": 0.6, "low": 0.5, "high": 0.7}
    stages = [
        {"DINO": {"ball": ball}, "confusion": [[1.0]]},
        {"DINO": {"ball": later, "vase": vase}, "confusion": [[0.75, 0.25], [0.0, 1.0]]},
    ]
    _, _, first, second = rows.row_table([{"subjects": ["ball", "vase"], "stages": stages}]).splitlines()
    assert first == "| ball, vase | ball | 0.80 [0.80, 0.80] | 0.60 [0.50, 0.70] | 75% | 25% |"
    assert second == "| ball, vase | vase | 0.60 [0.60, 0.60] | 0.60 [0.60, 0.60] | 100% | 0% |"


def test_what_was_measured_is_not_measured_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "numbers").mkdir()
    (tmp_path / "numbers" / "none-zigzag-mug.json").write_text(json.dumps(numbers()))
    asked = ["variants", "--output", str(tmp_path), "--variants", "none", "--subjects", "zigzag-mug"]
    assert main(asked) == 0
    assert "| none | 0.50 |" in capsys.readouterr().out
    assert "none" in (tmp_path / "frontier.svg").read_text(encoding="utf-8")


def test_the_figure_places_each_variant_by_its_means() -> None:
    drawn = ElementTree.fromstring(frontier({("a", "mug"): numbers(DINO=1.0, drift=0.0), ("b", "mug"): numbers(drift=1.0)}))
    dots = [(float(one.attrib["cx"]), float(one.attrib["cy"])) for one in drawn.iter() if one.attrib.get("r") == "5"]
    left, top, side = 50, 30, 300
    assert dots == [(left, top), (left + side, top + side / 2), (720, top), (720, top + side / 2)]
