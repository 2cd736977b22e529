"""Training under every memory plan: close to float32, resumed bit for bit, and told what to do when memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dreambooth.config import read_yaml, write_yaml
from dreambooth.data.size import Size
from dreambooth.display import Display
from dreambooth.errors import SettingsError, TrainingError
from dreambooth.memory.plan import PRESETS as PRESETS_BY_NAME
from dreambooth.memory.plan import MemoryPlan, plan_of
from dreambooth.recipes.train import resume, train
from dreambooth.runs.events import read_events
from dreambooth.runs.folder import RunFolder
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainer import previews
from dreambooth.trainer.disk_space import run_bytes
from dreambooth.trainer.messages import resume_hint
from dreambooth.trainer.run_records import intervals_of, stored_of
from dreambooth.trainer.workload import levers_to_pull, workload_of
from dreambooth.training.denoiser import Denoiser

MakeSettings = Callable[..., TrainSettings]
PRESETS = ["fast", "24gb", "12gb", "8gb", "6gb"]


def _run_bytes(settings: TrainSettings, plan: MemoryPlan, *, num_trained: int, num_parameters: int) -> int:
    stored = stored_of(settings, num_trained=num_trained, num_parameters=num_parameters)
    return run_bytes(stored, intervals_of(settings), plan)


def losses(run: Path) -> list[float]:
    return [event["loss"] for event in read_events(run / "events.jsonl") if event["event"] == "step"]


def checkpoint(run: Path, step: int) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / f"step-{step:06d}"
    files = {name: load_file(folder / f"{name}.safetensors") for name in ("weights", "optimizer")}
    return {f"{file} {name}": tensor for file, tensors in files.items() for name, tensor in tensors.items()}


def in_folder(settings: TrainSettings, name: str) -> TrainSettings:
    output = settings.output.model_copy(update={"output": settings.output.output.with_name(name)})
    return settings.model_copy(update={"output": output})


def at_steps(settings: TrainSettings, steps: int) -> TrainSettings:
    return settings.model_copy(update={"loop": settings.loop.model_copy(update={"steps": steps})})


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_goes_on_bit_for_bit_and_stays_close_to_float32(
    run_settings: MakeSettings, display: Display, preset: str
) -> None:
    exact = run_settings(loop={"steps": 3})
    settings = in_folder(run_settings(loop={"steps": 3}, memory={"memory_preset": preset}), preset)
    stopped = in_folder(settings, f"{preset}-stopped")
    train(exact, display)
    train(settings, display)
    train(at_steps(stopped, 2), display)
    resume(stopped.output.output, {"loop.steps": 3}, display)
    straight, resumed = (checkpoint(one.output.output, 3) for one in (settings, stopped))
    assert straight.keys() == resumed.keys()
    for name, tensor in straight.items():
        assert torch.equal(tensor, resumed[name]), name
    assert losses(settings.output.output) == losses(stopped.output.output)
    assert losses(settings.output.output) == pytest.approx(losses(exact.output.output), rel=0.03)
    stored = read_yaml(settings.output.output / "config.yaml")["memory"]
    assert stored["memory_preset"] == preset
    assert stored["precision"] in ("bf16", "bf16-mixed")


@pytest.mark.slow
@pytest.mark.parametrize(
    "levers",
    [
        {"memory.gradient_checkpointing": "all", "memory.micro_batch_size": 1},
        {"memory.states_on_host": True},
        {"memory.step_in_backward": True, "memory.gradient_checkpointing": "outer"},
    ],
    ids=str,
)
def test_levers_that_change_no_number_may_be_pulled_on_a_resume(
    run_settings: MakeSettings, display: Display, levers: dict[str, Any]
) -> None:
    settings = run_settings(loop={"steps": 4})
    saved = in_folder(run_settings(loop={"steps": 2}), "saved")
    train(settings, display)
    train(saved, display)
    resume(saved.output.output, {"loop.steps": 4, **levers}, display)
    assert losses(saved.output.output) == pytest.approx(losses(settings.output.output), rel=1e-4)
    straight, resumed = (checkpoint(one.output.output, 4) for one in (settings, saved))
    for name, tensor in straight.items():
        if name.startswith("weights"):
            torch.testing.assert_close(resumed[name], tensor, rtol=1e-3, atol=2e-4, msg=name)


@pytest.mark.slow
def test_streamed_blocks_give_the_same_run_and_can_be_begun_later(
    run_settings: MakeSettings, display: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "_STEPS", 3)
    looks = {"preview_steps": 2, "preview_prompts": ["{instance_prompt}"], "validation_steps": 1}
    small: dict[str, Any] = {"memory_preset": "6gb", "states_on_host": True}
    plain = run_settings(loop={"steps": 3}, memory=small, output=looks)
    streamed = in_folder(run_settings(loop={"steps": 2}, memory={**small, "stream_blocks": True}, output=looks), "streamed")
    later = in_folder(run_settings(loop={"steps": 2}, memory=small, output=looks), "later")
    train(plain, display)
    train(streamed, display)
    resume(streamed.output.output, {"loop.steps": 3}, display)
    train(later, display)
    resume(later.output.output, {"loop.steps": 3, "memory.stream_blocks": True}, display)
    expected, model = checkpoint(plain.output.output, 3), load_file(plain.output.output / "model.safetensors")
    for run in (streamed.output.output, later.output.output):
        for name, tensor in checkpoint(run, 3).items():
            assert torch.equal(tensor, expected[name]), name
        for name, tensor in load_file(run / "model.safetensors").items():
            assert torch.equal(tensor, model[name]), name
        assert losses(run) == losses(plain.output.output)
        assert [event["step"] for event in read_events(run / "events.jsonl") if event["event"] == "preview"] == [0, 2]


def test_an_average_on_the_device_and_streamed_blocks_exclude_each_other(run_settings: MakeSettings) -> None:
    with pytest.raises(
        SettingsError, match="stream_blocks keeps the weights in host memory, but ema_decay keeps their average on the device"
    ):
        run_settings(loop={"ema_decay": 0.99}, memory={"memory_preset": "6gb", "stream_blocks": True})


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"optimizer": {"optimizer": "adafactor"}, "memory": {"optimizer_states": "8bit"}},
            "optimizer is adafactor, which has almost no state, so optimizer_states would have no effect",
        ),
        ({"optimizer": {"optimizer": "adafactor", "adam_beta1": 0.5}}, "optimizer is adafactor, so adam_beta1 would have no"),
        (
            {"memory": {"micro_batch_size": 2}},
            "micro_batch_size is 2 and a forward pass has 2 examples, so it would have no effect",
        ),
        (
            {"loop": {"compile": "full"}, "memory": {"memory_preset": "6gb", "stream_blocks": True}},
            "stream_blocks moves weights during the forward pass, which does not work with compile=full",
        ),
        (
            {"loop": {"gradient_accumulation": 2}, "memory": {"step_in_backward": True}},
            "step_in_backward frees each gradient at once, but gradient_accumulation is 2",
        ),
        (
            {"views": {"crop": "bucket"}, "memory": {"step_in_backward": True, "shard": False}},
            "crop is bucket, so a step has a forward pass for each size, which does not work with step_in_backward; use only",
        ),
    ],
)
def test_options_without_effect_are_refused(run_settings: MakeSettings, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        run_settings(**sections)


@pytest.mark.slow
def test_adafactor_trains_and_goes_on_bit_for_bit(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(loop={"steps": 3}, optimizer={"optimizer": "adafactor", "learning_rate": 1e-3})
    stopped = at_steps(in_folder(settings, "stopped"), 2)
    train(settings, display)
    train(stopped, display)
    resume(stopped.output.output, {"loop.steps": 3}, display)
    straight, resumed = (checkpoint(one.output.output, 3) for one in (settings, stopped))
    for name, tensor in straight.items():
        assert torch.equal(tensor, resumed[name]), name
    assert losses(settings.output.output)[0] != losses(settings.output.output)[1]


@pytest.mark.slow
def test_another_format_of_the_means_is_refused_on_a_resume(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(loop={"steps": 1})
    train(settings, display)
    run = settings.output.output
    with pytest.raises(SettingsError) as caught:
        resume(run, {"loop.steps": 2, "memory.memory_preset": "8gb"}, display)
    assert caught.value.problems == (
        "memory.optimizer_states was float32 when the run started and is now 8bit; "
        "with --memory-preset 8gb add --optimizer-states float32",
    )
    with pytest.raises(SettingsError, match=r"memory\.precision was 'fp32' when the run started and is now 'bf16'"):
        resume(run, {"loop.steps": 2, "memory.precision": "bf16"}, display)
    with pytest.raises(SettingsError, match=r"memory_preset is auto, but the run started with cpu; name a preset"):
        resume(run, {"loop.steps": 2, "memory.memory_preset": "auto"}, display)
    changed = {"loop.steps": 2, "memory.memory_preset": "8gb", "memory.optimizer_states": "float32"}
    assert resume(run, changed, display).step == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ],
    ids=["cuda", "cpu"],
)
def test_out_of_memory_is_told_with_the_levers_and_the_run_goes_on(
    run_settings: MakeSettings, display: Display, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    settings = run_settings(loop={"steps": 4}, output={"checkpoint_steps": 2})
    calls = 0
    predict = Denoiser.__call__

    def full(self: Denoiser, *arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise error
        return predict(self, *arguments)

    monkeypatch.setattr(Denoiser, "__call__", full)
    with pytest.raises(TrainingError) as caught:
        train(settings, display)
    [problem], hint = caught.value.problems, caught.value.hint
    assert problem.startswith("cpu (1 thread): out of memory (")
    assert "more" not in problem
    assert hint is not None
    assert hint.startswith("Resume with --gradient-checkpointing all or --micro-batch-size 1 or --states-on-host")
    assert "The run is saved at step 2. To resume:\n  dreambooth train --resume" in hint
    changes = {"memory.gradient_checkpointing": "all", "memory.micro_batch_size": 1}
    assert resume(settings.output.output, changes, display).step == 4


def test_only_levers_that_the_run_may_pull_are_offered(run_settings: MakeSettings) -> None:
    cpu = {"memory_preset": "cpu"}  # as a run has it when it has begun
    accumulating = run_settings(
        loop={"gradient_accumulation": 2, "ema_decay": 0.99}, optimizer={"optimizer": "adafactor"}, memory=cpu
    )
    levers = levers_to_pull(accumulating, PRESETS_BY_NAME["cpu"], workload_of(accumulating, Size.square(64)))
    assert levers == ("--gradient-checkpointing all", "--micro-batch-size 1")
    alone = run_settings(prior={"prior_weight": 0, "num_prior_images": 200, "prior_sampling_steps": 50}, memory=cpu)
    assert "--micro-batch-size 1" not in levers_to_pull(alone, PRESETS_BY_NAME["cpu"], workload_of(alone, Size.square(64)))
    outer = run_settings(memory={"memory_preset": "6gb", "gradient_checkpointing": "outer"})
    plan = plan_of("6gb", outer.memory, has_bfloat16=True)
    assert levers_to_pull(outer, plan, workload_of(outer, Size.square(64))) == (
        "--gradient-checkpointing all",
        "--states-on-host",
    )


@pytest.mark.slow
def test_a_preset_may_change_on_a_resume_where_there_are_no_means(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(loop={"steps": 1}, optimizer={"optimizer": "adafactor"})
    train(settings, display)
    changes = {"loop.steps": 2, "memory.memory_preset": "12gb", "loop.compile": "off"}
    assert resume(settings.output.output, changes, display).step == 2


@pytest.mark.slow
def test_a_final_model_that_was_removed_is_written_again(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(loop={"steps": 1})
    model = settings.output.output / "model.safetensors"
    train(settings, display)
    before = load_file(model)
    model.unlink()
    resume(settings.output.output, {}, display)
    for name, tensor in load_file(model).items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.slow
def test_a_checkpoint_takes_the_room_that_the_plan_gives_it(run_settings: MakeSettings, display: Display) -> None:
    margin = _run_bytes(run_settings(loop={"steps": 1}), PRESETS_BY_NAME["cpu"], num_trained=0, num_parameters=0)
    for preset in ("cpu", "6gb"):
        settings = in_folder(run_settings(loop={"steps": 1}, memory={"memory_preset": preset}), preset)
        train(settings, display)
        [saved] = (settings.output.output / "checkpoints").iterdir()
        num_trained = sum(tensor.numel() for tensor in load_file(saved / "weights.safetensors").values())
        size = sum(path.stat().st_size for path in saved.glob("*.safetensors"))
        predicted = _run_bytes(settings, PRESETS_BY_NAME[preset], num_trained=num_trained, num_parameters=0) - margin
        # the means of tensors under 4096 numbers, of which a miniature has many, stay in float32
        assert predicted == pytest.approx(size, rel=0.02 if preset == "cpu" else 0.05), preset


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    run_settings: MakeSettings, display: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> torch.Tensor:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Denoiser, "__call__", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(run_settings(), display)


def test_a_sharded_run_is_told_resume_hint_in_one_process(run_settings: MakeSettings, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert resume_hint(run, "own").endswith(f"To resume:\n  dreambooth train --resume {run.path}")
    write_yaml(run.config, run_settings(memory={"memory_preset": "fast", "shard": True}), comment="")
    assert f"dreambooth train --resume {run.path} --no-shard\n  torchrun --nproc-per-node N -m dreambooth" in resume_hint(
        run, "own"
    )
