"""Scores in the browser: asked for as a job, shown with their intervals, the best step named as the program names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from dreambooth.runs.folder import RunFolder
from dreambooth.web.desk import Desk
from dreambooth.web.run_scores import evaluated_scores, score_tables, trained_scores


def add_events(run: Path, *events: dict[str, Any]) -> None:
    with (run / "events.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps({"time": 9.0, **event}) + "\n" for event in events)


def scored(step: int, balance: float) -> dict[str, Any]:
    """An event of a step that was scored while training."""
    parts = {"fidelity": 0.6, "prompt": 0.7, "prior": 0.8}
    scores, intervals = {"DINO": 0.61, "CLIP-T": 0.3}, {"DINO": [0.55, 0.66]}
    return {"event": "evaluation", "step": step, "balance": balance, **parts, "scores": scores, "intervals": intervals}


def write_scores(run: Path, *, best: int = 2) -> None:
    """What `dreambooth evaluate` writes of a run with two models, as far as a page shows it."""

    def found(shift: float) -> dict[str, Any]:
        values = {"DINO": 0.5, "CLIP-T": 0.3, "PRES": 0.4}
        scores = [
            {"name": name, "value": value + shift, "low": value - 0.02, "high": value + 0.02} for name, value in values.items()
        ]
        balance = {"value": 0.5 + shift, "fidelity": 0.5, "prompt": 0.5, "prior": 0.5}
        return {"scores": scores, "copying": {"share": 0.25}, "balance": balance}

    record = {
        "by_step": {"0": found(0), "2": found(0.2), "4": found(0.1)},
        "best_step": {"step": best, "text": f"Best step by the balance: {best}."},
        "verdict": ["The subject was learned."],
        "scores": {"model": found(0.1)["scores"]},
        "copying": {"share": 0.25},
        "step": 4,
    }
    (run / "evaluation").mkdir()
    (run / "evaluation" / "scores.json").write_text(json.dumps(record), encoding="utf-8")


def test_a_run_is_scored_by_a_job_that_is_shown_as_a_command(client: TestClient, trained: str, desk: Desk) -> None:
    assert "Score now" in client.get(f"/projects/{trained}/choose").text
    answer = client.post(f"/projects/{trained}/score", data={"run": "1", "num_images": "2", "sampling_steps": "50"})
    assert answer.headers["location"] == f"/projects/{trained}/choose?run=1"
    (job,) = desk.queue.store.of(trained, ("evaluate",))
    assert job.command[3:] == ("evaluate", f"--model={desk.projects.named(trained).runs / '1'}", "--num-images=2")
    assert job.typed.startswith("dreambooth evaluate --model=") and job.place == "runs/1/evaluation"
    values = client.get(f"/api/v1/projects/{trained}/choose").json()
    assert values["score_job"]["state"] == "waiting" and not values["can_score"]
    again = client.post(f"/api/v1/projects/{trained}/score", json={"run": "1"})
    assert again.json()["problems"] == ["this run is being scored already"]
    assert client.post(f"/jobs/{job.number}/stop").headers["location"] == f"/projects/{trained}/choose"


def test_scores_need_a_final_model_and_right_values(client: TestClient, trained: str, desk: Desk) -> None:
    wrong = client.post(f"/api/v1/projects/{trained}/score", json={"run": "1", "num_images": "0"})
    assert wrong.json()["problems"] == ["--num-images is '0': expected at least 1"]
    assert client.post(f"/api/v1/projects/{trained}/score", json={"run": "../1"}).status_code == 422
    RunFolder(desk.projects.named(trained).runs / "1").final_model.unlink()
    early = client.post(f"/api/v1/projects/{trained}/score", json={"run": "1"})
    assert early.json()["problems"] == ["this run has not written its final model yet"]
    assert desk.queue.store.of(trained, ("evaluate",)) == []


def test_the_encoders_of_the_project_are_used(client: TestClient, trained: str, desk: Desk) -> None:
    desk.projects.change(desk.projects.named(trained), lambda notes: {"settings": {"selection.dino": "toybox"}})
    client.post(f"/projects/{trained}/score", data={"run": "1"})
    assert desk.queue.store.all()[-1].command[-1] == "--dino=toybox"


def test_steps_are_shown_with_intervals_and_the_best_one_is_named(client: TestClient, trained: str, desk: Desk) -> None:
    run = desk.projects.named(trained).runs / "1"
    write_scores(run)
    values = client.get(f"/api/v1/projects/{trained}/choose").json()
    (table,) = values["score_tables"]
    assert [row["step"] for row in table["rows"]] == [0, 2, 4] and values["best_step"] == 2
    row = {"step": 2, "balance": "0.700", "fidelity": "0.700 [0.480, 0.520]", "prompt": "0.500 [0.280, 0.320]"}
    assert table["rows"][1] == {**row, "prior": "0.600 [0.380, 0.420]", "copies": "25%"}
    assert [(one["step"], one["is_best"], one["scores"]["balance"]) for one in values["rows"]] == [
        (2, True, "0.700"),
        (4, False, "0.600"),
    ]
    page = client.get(f"/projects/{trained}/choose").text
    assert "Step 2, best by the scores" in page and "Best step by the balance: 2." in page and "Base model" in page
    assert "0.700 [0.480, 0.520]" in client.get(f"/projects/{trained}/train").text


def test_scores_of_the_training_name_the_step_that_it_chose(trained: str, desk: Desk) -> None:
    run = desk.projects.named(trained).runs / "1"
    add_events(run, scored(0, 0.5), scored(2, 0.8), scored(4, 0.6))
    (table,) = score_tables(RunFolder(run))
    assert (table["best"], table["said"]) == (2, ["Best step so far: 2, with a balance of 0.800."])
    assert [row["fidelity"] for row in table["rows"]] == ["0.610 [0.550, 0.660]"] * 3
    assert [(row["prompt"], row["prior"]) for row in table["rows"]] == [("0.300", "-")] * 3
    text = "The final model is from step 2"
    add_events(run, {"event": "selection", "step": 4, "chosen": 2, "best": 2, "text": text, "balances": {}})
    assert trained_scores(RunFolder(run))[0]["said"] == [f"{text}."]


def test_a_best_step_that_is_the_final_model_is_one_row_and_its_sentence_names_no_place(
    client: TestClient, trained: str, desk: Desk
) -> None:
    run = RunFolder(desk.projects.named(trained).runs / "1")
    run.final_model.rename(run.model_at(4))
    run.final_model.hardlink_to(run.model_at(2))
    text = f"The final model is from step 2. The others are in {run.model_at(2).parent}"
    chosen = {"event": "selection", "step": 4, "chosen": 2, "best": 2, "text": text, "balances": {}}
    add_events(run.path, scored(2, 0.8), scored(4, 0.6), chosen)
    values = client.get(f"/api/v1/projects/{trained}/choose").json()
    rows = [(row["step"], row["is_last"], row["is_best"], row["is_chosen"]) for row in values["rows"]]
    assert rows == [(2, True, True, True), (4, False, False, False)]
    said = [f"The final model is from step 2. The others are in {trained}/runs/1/models."]
    assert values["score_tables"][0]["said"] == said
    assert client.get(f"/api/v1/projects/{trained}/train").json()["score_tables"][0]["said"] == said
    assert "Step 2, the final model, best by the scores: chosen" in client.get(f"/projects/{trained}/choose").text


def test_several_subjects_have_a_table_each_below_their_means(trained: str, desk: Desk) -> None:
    run = desk.projects.named(trained).runs / "1"
    one = {name: value for name, value in scored(2, 0.7).items() if name not in ("event", "step")}
    add_events(run, {**scored(2, 0.6), "intervals": {}, "subjects": {"sks dog": one, "mwf cat": {**one, "balance": 0.5}}})
    whole, dog, cat = trained_scores(RunFolder(run))
    assert (whole["best"], whole["rows"][0]["fidelity"], whole["rows"][0]["balance"]) == (2, "0.610", "0.600")
    assert (dog["title"], dog["rows"][0]["fidelity"]) == ("Scores while training: sks dog", "0.610 [0.550, 0.660]")
    assert (cat["best"], cat["rows"][0]["balance"]) == (None, "0.500")


def test_a_run_with_one_model_shows_the_scores_of_that_one(trained: str, desk: Desk) -> None:
    run = desk.projects.named(trained).runs / "1"
    write_scores(run)
    path = run / "evaluation" / "scores.json"
    record = {**json.loads(path.read_text(encoding="utf-8")), "by_step": {}, "best_step": None}
    path.write_text(json.dumps({"subjects": {"sks vase": record}, "confusion": {}}), encoding="utf-8")
    (table,) = evaluated_scores(RunFolder(run))
    assert (table["title"], table["best"]) == ("Scores of the finished run: sks vase", None)
    assert [(row["step"], row["balance"], row["copies"]) for row in table["rows"]] == [(4, "-", "25%")]


@pytest.mark.parametrize("damaged", [None, {}, [0.1], ["a", 1], [None, 1], "ab"])
def test_damaged_intervals_of_an_event_are_not_shown(trained: str, desk: Desk, damaged: object) -> None:
    run = desk.projects.named(trained).runs / "1"
    add_events(run, {**scored(2, 0.6), "intervals": damaged and {"DINO": damaged}, "copies": "many"})
    (table,) = trained_scores(RunFolder(run))
    assert (table["rows"][0]["fidelity"], table["rows"][0]["copies"]) == ("0.610", "-")


@pytest.mark.parametrize("damaged", ["{", "[]", "{}", '{"by_step": {"x": {}}}', '{"by_step": {"1": {"scores": [1]}}}', "3"])
def test_a_damaged_file_of_scores_is_no_table(client: TestClient, trained: str, desk: Desk, damaged: str) -> None:
    folder = desk.projects.named(trained).runs / "1" / "evaluation"
    folder.mkdir()
    (folder / "scores.json").write_text(damaged, encoding="utf-8")
    assert client.get(f"/api/v1/projects/{trained}/choose").json()["score_tables"] == []
