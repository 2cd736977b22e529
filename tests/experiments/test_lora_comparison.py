"""`experiments.lora`: equal time becomes steps, every flag is a valid command, and the tables say what survives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dreambooth.cli.flags import read_arguments
from dreambooth.cli.layers import settings_from
from dreambooth.cli.verbs import VERBS
from dreambooth.runs.folder import RunFolder
from experiments.lora.measure import BASE, FULL, extracted, lora
from experiments.lora.runs import LoraScale, Training, learn_second, measure_speed
from experiments.lora.tables import as_markdown
from experiments.results import runs as result_runs
from experiments.results.runs import Pair, Place

SECONDS = {"full": 0.5, "4": 0.25, "16": 0.125, "64": 1.0}


def pretend_to_train(typed: list[list[str]]) -> Any:
    """A command that writes the events of steps, each taking the seconds of its kind."""

    def run(arguments: list[str]) -> int:
        typed.append(arguments)
        folder = RunFolder(Path(arguments[arguments.index("--resume" if "--resume" in arguments else "--output") + 1]))
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.final_model.touch()
        seconds, steps = SECONDS.get(folder.path.name, 1.0), int(arguments[arguments.index("--steps") + 1])
        lines = [json.dumps({"event": "step", "step": step, "time": 100.0 + step * seconds}) for step in range(1, steps + 1)]
        folder.events.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return 0

    return run


def test_a_lora_trains_for_as_long_as_the_full_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed: list[list[str]] = []
    monkeypatch.setattr(result_runs, "main", pretend_to_train(typed))
    speed = measure_speed(Place(tmp_path), LoraScale())
    assert speed["seconds a step"] == pytest.approx(SECONDS)
    assert speed["steps"] == {"full": 400, "4": 800, "16": 1600, "64": 200}
    kinds = [Path(one[one.index("--resume" if "--resume" in one else "--output") + 1]).name for one in typed]
    assert kinds == [*SECONDS] * 3, "they take turns"
    learn_second(Place(tmp_path), LoraScale(), Pair("marked-ball", "belted-vase"), Training(16, 0.002, 5))
    verb = VERBS["train"]
    record = verb.record()
    settings = settings_from(verb, record, read_arguments(verb, record, typed[-1][1:]))
    assert (settings.trainee.trainee, settings.trainee.rank, settings.subject.token) == ("lora", 16, "zwx")


def scores(dino: float, **more: Any) -> dict[str, Any]:
    names = ("DINO", "PRES", "drift", "DIV", "DINO in places", "place by the judge", "unseen place")
    names += ("colour by the judge", "unseen color")
    return {**{name: {"value": dino, "low": None, "high": None} for name in names}, "bytes": 2e6, **more}


def test_the_tables_say_what_survives_and_what_is_confused() -> None:
    found = {
        "speed": {"seconds a step": {"full": 0.5, "4": 0.25}, "steps": {"full": 400, "4": 800}},
        "rates": {"chosen": 0.002, "scores": {"0.001": scores(0.5), "0.002": scores(0.625)}},
        "scores": {
            BASE: {"mug": scores(0.25)},
            FULL: {"mug": scores(0.75, seconds=200.0)},
            lora(4): {"mug": scores(0.625, seconds=190.0)},
            extracted(8): {"mug": scores(0.5, **{"kept of the change": {"UNet": 0.5}})},
        },
        "pairs": [],
    }
    text = as_markdown(found)
    assert "| 0.002 (chosen) | 0.62 | 0.62 | 0.62 |" in text
    assert "| LoRA of rank 4 | 250 ms | 800 | 190 s | 2.0 MB |" in text
    assert "| LoRA of rank 4 minus full | -0.12 |" in text
    assert "| LoRA of rank 4 | 75% | 2.0 MB |  |" in text
    assert "| extracted, rank 8 | 50% | 2.0 MB | UNet 50% |" in text
