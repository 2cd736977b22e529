"""Scores while a run trains: which model becomes the final one, when training ends early, and that resuming changes neither.

What looks at the pictures is a stand-in that compares them coarsely; where the outcome is to be known, the balances are given.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dreambooth.data.drawing import PerRole
from dreambooth.data.size import Size
from dreambooth.display import Display
from dreambooth.errors import DreamboothError, RunError
from dreambooth.estimate.traces import Sampling
from dreambooth.evaluation.evaluator import Encoders
from dreambooth.families.components import Components
from dreambooth.measures.balance import Balance
from dreambooth.measures.features import FeatureCache
from dreambooth.memory.plan import PRESETS, MemoryPlan
from dreambooth.recipes import train as recipe
from dreambooth.recipes.train import TrainResult, resume, train
from dreambooth.runs.events import read_events
from dreambooth.sampling.sampler import final_latents
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainer import preflight, scorer, scoring_checks
from dreambooth.trainer.disk_space import run_bytes
from dreambooth.trainer.due import Due
from dreambooth.trainer.run_records import intervals_of, stored_of
from dreambooth.trainer.workload import workload_of
from dreambooth.weights.read import read_model
from tests.coarse_encoder import CoarseEncoder

MakeSettings = Callable[..., TrainSettings]
SCORED: dict[str, Any] = {
    "evaluate_every": 1,
    "evaluation_images": 1,
    "evaluation_sampling_steps": 1,
    "select": "best",
}
PEAK = {1: 0.55, 2: 0.7, 3: 0.6, 4: 0.9}


def _run_bytes(settings: TrainSettings, plan: MemoryPlan, *, num_trained: int, num_parameters: int) -> int:
    stored = stored_of(settings, num_trained=num_trained, num_parameters=num_parameters)
    return run_bytes(stored, intervals_of(settings), plan)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(asked: object, *, side: int, is_toybox: bool, device: torch.device, cache: Path) -> Encoders:
        return Encoders(CoarseEncoder(), CoarseEncoder(), None, FeatureCache(cache))

    monkeypatch.setattr(scoring_checks, "choose_encoders", choose)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The balance is that of the table `PEAK` for the last step that the run has taken down, whatever the pictures show."""

    def balance(*_: object) -> Balance:
        steps = [event["step"] for event in read_events(tmp_path / "runs" / "dog" / "events.jsonl") if event["event"] == "step"]
        return Balance(PEAK.get(max(steps, default=0), 0.5), 0.1, 0.2, 0.3)

    monkeypatch.setattr(scorer, "balance", balance)


def entries(result: TrainResult, event: str) -> list[dict[str, Any]]:
    return [entry for entry in read_events(result.run / "events.jsonl") if entry["event"] == event]


def step_of(model: Path | None) -> int:
    assert model is not None
    return int(read_model(str(model)).metadata["global_step"])


@pytest.mark.slow
@pytest.mark.usefixtures("known")
def test_the_best_model_becomes_the_final_one(run_settings: MakeSettings, display: Display, said: Callable[[], str]) -> None:
    settings = run_settings(loop={"steps": 3}, selection=SCORED)
    result = train(settings, display)
    assert (result.step, step_of(result.model)) == (3, 2)
    assert [path.name for path in sorted((result.run / "models").iterdir())] == [f"step-{n:06d}.safetensors" for n in (1, 2, 3)]
    assert (result.run / "model.safetensors").read_bytes() == (result.run / "models" / "step-000002.safetensors").read_bytes()
    assert [entry["step"] for entry in entries(result, "evaluation")] == [0, 1, 2, 3]
    (chosen,) = entries(result, "selection")
    assert (chosen["step"], chosen["chosen"], chosen["best"]) == (3, 2, 2)
    assert chosen["balances"] == {"1": 0.55, "2": 0.7, "3": 0.6}
    text = " ".join(said().split())
    assert "Scoring every 1 steps: 12 images with 1 denoising steps each time, 3 times and once before training" in text
    assert "the remaining 3 times will take" in text
    assert "The final model is from step 2, with a balance of 0.700 (fidelity 0.10, prompt 0.20, prior 0.30)" in text
    assert "; averaged with its neighbors, 0.637, the highest of 3 scored steps (last step, 3: 0.625)" in text

    again = resume(result.run, {"selection.select": "last"}, display)
    assert (step_of(again.model), "The best-scored is step 2" in said()) == (3, True)
    with pytest.raises(DreamboothError, match=r"selection\.evaluate_every was 1"):
        resume(result.run, {"selection.evaluate_every": 3}, display)
    (result.run / "models" / "step-000002.safetensors").unlink()
    with pytest.raises(RunError, match="it was the run's best model\nRestore it, or use --select last"):
        resume(result.run, {"selection.select": "best"}, display)


@pytest.mark.slow
@pytest.mark.usefixtures("known")
def test_a_best_model_that_is_gone_is_missed_before_training_goes_on(run_settings: MakeSettings, display: Display) -> None:
    result = train(run_settings(loop={"steps": 3}, selection=SCORED), display)
    best = result.run / "models" / "step-000002.safetensors"
    best.unlink()
    files = {name: (result.run / name).read_bytes() for name in ("config.yaml", "events.jsonl", "model.safetensors")}
    with pytest.raises(RunError) as caught:
        resume(result.run, {"loop.steps": 4}, display)
    assert caught.value.problems == (f"{best}: no such file; it was the run's best model",)
    assert caught.value.hint == f"Copy {result.run / 'model.safetensors'} there (it is the same model), or use --select last."
    assert {name: (result.run / name).read_bytes() for name in files} == files, "nothing was done before it was missed"
    shutil.copy(result.run / "model.safetensors", best)
    (result.run / "models" / "step-000003.safetensors").unlink()  # the checkpoint has it as well
    assert step_of(resume(result.run, {"loop.steps": 4}, display).model) == 4, "the best of all by now"
    assert step_of(result.run / "models" / "step-000003.safetensors") == 3


@pytest.mark.slow
@pytest.mark.usefixtures("known")
def test_a_finished_run_whose_models_were_cleared_away_still_has_its_last(run_settings: MakeSettings, display: Display) -> None:
    result = train(run_settings(loop={"steps": 3}, selection={**SCORED, "select": "last"}), display)
    model = (result.run / "model.safetensors").read_bytes()
    shutil.rmtree(result.run / "models")
    assert resume(result.run, {}, display).step == 3
    assert (result.run / "model.safetensors").read_bytes() == model


@pytest.mark.slow
@pytest.mark.parametrize(("highest", "is_told"), [(0.5, True), (0.51, False)])
@pytest.mark.usefixtures("known")
def test_a_best_step_that_is_no_better_than_no_training_is_told_of(
    run_settings: MakeSettings, display: Display, monkeypatch: pytest.MonkeyPatch, highest: float, is_told: bool
) -> None:
    monkeypatch.setitem(PEAK, 1, highest)
    monkeypatch.setitem(PEAK, 2, highest)
    result = train(run_settings(loop={"steps": 2}, selection=SCORED), display)
    told = "No scored step is above the base model's 0.500: by these scores, what was gained on the subject does not outweigh"
    assert (told in entries(result, "selection")[0]["text"]) is is_told


def test_all_processes_end_a_finished_run_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def answer_of_the_main_process(flag: bool) -> bool:
        asked.append(flag)
        return True

    monkeypatch.setattr(recipe, "peak_has_passed", lambda session: pytest.fail("the main process looks"))
    processes = SimpleNamespace(is_main=False, any=answer_of_the_main_process)
    session: Any = SimpleNamespace(ready=SimpleNamespace(processes=processes), due=Due(scores=True))
    assert recipe._has_ended_early(session)
    assert asked == [False]


@pytest.mark.slow
@pytest.mark.usefixtures("known")
def test_training_ends_when_the_peak_has_passed_and_can_go_on(
    run_settings: MakeSettings, display: Display, said: Callable[[], str]
) -> None:
    stopping = {**SCORED, "early_stop_margin": 0.05, "early_stop_patience": 1}
    result = train(run_settings(loop={"steps": 4}, selection=stopping), display)
    assert (result.step, step_of(result.model), result.was_asked_to_stop) == (3, 2, False)
    assert (result.run / "checkpoints" / "step-000003").is_dir()
    assert "Training ended early at step 3 of 4" in said() and "--early-stop-margin 1" in said()

    events, checkpoints = (result.run / "events.jsonl").read_bytes(), [*(result.run / "checkpoints").iterdir()]
    told = said().count("Training ended early at step 3 of 4")
    again = resume(result.run, {}, display)
    assert (again.step, step_of(again.model)) == (3, 2)
    assert said().count("Training ended early at step 3 of 4") == told + 1
    assert "Resuming from step" not in said()
    assert (result.run / "events.jsonl").read_bytes() == events
    assert [*(result.run / "checkpoints").iterdir()] == checkpoints

    further = resume(result.run, {"selection.early_stop_margin": 1.0}, display)
    assert (further.step, step_of(further.model)) == (4, 4)
    assert "Resuming from step 3" in said()


@pytest.mark.slow
@pytest.mark.usefixtures("known")
def test_a_run_that_ended_early_goes_on_with_more_patience(run_settings: MakeSettings, display: Display) -> None:
    stopping = {**SCORED, "early_stop_margin": 0.05, "early_stop_patience": 1}
    result = train(run_settings(loop={"steps": 4}, selection=stopping), display)
    assert resume(result.run, {"loop.steps": 5}, display).step == 3, "more steps are no reason"
    assert resume(result.run, {"selection.early_stop_patience": 2}, display).step == 5


@pytest.mark.slow
def test_a_resumed_run_scores_and_chooses_as_one_that_never_stopped(
    run_settings: MakeSettings, display: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections: dict[str, Any] = {"loop": {"steps": 3, "ema_decay": 0.5}, "selection": SCORED, "output": {"checkpoint_steps": 2}}
    sections["optimizer"] = {"learning_rate": 1e-2}  # so that pictures of 8 bits differ from step to step
    scored: list[Tensor] = []

    def sampled(components: Components, *arguments: Any, **options: Any) -> Tensor:
        scored.append(components.denoiser.get_parameter("conv_in.weight").detach().clone())
        return final_latents(components, *arguments, **options)

    monkeypatch.setattr(scorer, "final_latents", sampled)
    whole = train(run_settings(**sections), display)
    written = load_file(whole.run / "models" / "step-000003.safetensors")["model.diffusion_model.input_blocks.0.0.weight"]
    assert torch.equal(scored[-1].half(), written), "what is scored is what is written: the average"
    kept = numbers(whole)
    assert all(0 <= entry["balance"] <= 1 for entry in kept.values()) and len(kept) == 4
    assert len({entry["balance"] for entry in kept.values()}) == 4, "every step scores otherwise"
    assert kept[0]["scores"]["drift"] == pytest.approx(0, abs=1e-6) and kept[3]["scores"]["drift"] > 1e-6
    low, high = kept[3]["intervals"]["DINO"]
    assert low <= kept[3]["scores"]["DINO"] <= high
    model = (whole.run / "model.safetensors").read_bytes()

    shutil.rmtree(whole.run / "checkpoints" / "step-000003")
    for name in ("models/step-000003.safetensors", "model.safetensors"):
        (whole.run / name).unlink()
    shutil.rmtree(whole.run / "scores" / "features")
    again = resume(whole.run, {}, display)
    assert numbers(again) == kept
    assert (again.run / "model.safetensors").read_bytes() == model

    (whole.run / "scores" / "base.safetensors").unlink()
    shutil.rmtree(whole.run / "checkpoints" / "step-000003")
    (whole.run / "models" / "step-000003.safetensors").unlink()
    events = (whole.run / "events.jsonl").read_text()
    with pytest.raises(RunError, match="the base model's images from before the first step"):
        resume(whole.run, {}, display)
    assert (whole.run / "events.jsonl").read_text() == events, "nothing was done before it was missed"


def numbers(result: TrainResult) -> Mapping[int, dict[str, Any]]:
    return {
        entry["step"]: {name: value for name, value in entry.items() if name != "time"}
        for entry in entries(result, "evaluation")
    }


def test_what_cannot_be_scored_is_refused_before_training(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(loop={"steps": 3}, selection={"evaluate_every": 4}, memory={"shard": True})
    with pytest.raises(DreamboothError) as caught:
        train(settings, display)
    assert "evaluate_every is 4 but steps is 3, so no step would be scored" in caught.value.text
    assert "evaluate_every scores in one process" in caught.value.text
    assert not settings.output.output.exists()


@pytest.mark.slow
def test_judges_that_see_nothing_cannot_choose(
    run_settings: MakeSettings, display: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CoarseEncoder, "encode", lambda self, pixels_BCHW: torch.ones(len(pixels_BCHW), 48))
    with pytest.raises(DreamboothError, match="no model can be chosen"):
        train(run_settings(selection=SCORED), display)


def test_what_is_scored_needs_room_on_the_disk_and_the_memory_of_a_preview(run_settings: MakeSettings) -> None:
    def settings(every: int, layout: str = "own") -> TrainSettings:
        output = {"checkpoint_steps": 50, "keep_checkpoints": 1, "file_layout": layout, "preview_steps": 0}
        return run_settings(loop={"steps": 100}, output=output, selection={"evaluate_every": every})

    without, scored = (_run_bytes(settings(every), PRESETS["cpu"], num_trained=0, num_parameters=1000) for every in (0, 20))
    assert scored - without == 4 * 2000, "models of the steps 20, 40, 60 and 80 beside those of 50 and 100"
    assert workload_of(settings(0), Size.square(64)).previews is None
    assert workload_of(settings(20), Size.square(64)).previews == Sampling(1, is_guided=True)
    names = preflight._model_names(settings(20, "xavierxiao"), PerRole(1000, 0))
    assert len({names.at(step) for step in (20, 40, 50, 60, 80)}) == 5, "all fall into one epoch, and none has another's name"
