"""Presets, single choices over them, and choices that contradict each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from dreambooth.errors import SettingsError
from dreambooth.memory.plan import PRESETS, MemoryPlan, describe_plan, levers_left, plan_of
from dreambooth.memory.settings import MemoryPreset, MemorySettings


def chosen(preset: Any, *, has_bfloat16: bool = True, **choices: Any) -> MemoryPlan:
    return plan_of(preset, MemorySettings.model_validate(choices), has_bfloat16=has_bfloat16)


def test_every_preset_stands_by_itself() -> None:
    assert {"auto", *PRESETS} == set(get_args(MemoryPreset))
    for name in PRESETS:
        assert chosen(name) == PRESETS[name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("precision", "fp32"),
        ("optimizer_states", "4bit"),
        ("gradient_checkpointing", "off"),
        ("micro_batch_size", 2),
        ("states_on_host", True),
        ("step_in_backward", False),
    ],
)
def test_a_choice_is_laid_over_the_preset(name: str, value: Any) -> None:
    plan = chosen("8gb", **{name: value})
    assert getattr(plan, name) == value
    unchanged = [field for field in vars(plan) if field != name]
    assert all(getattr(plan, field) == getattr(PRESETS["8gb"], field) for field in unchanged)


def test_a_device_without_bfloat16_mixes_float16() -> None:
    assert chosen("24gb", has_bfloat16=False).precision == "fp16-mixed"
    assert chosen("8gb", has_bfloat16=False).precision == "bf16"  # which choose_precision then refuses by name


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"step_in_backward": True, "micro_batch_size": 1}, "it cannot be summed over micro-batches"),
        ({"step_in_backward": True, "precision": "fp16-mixed"}, "needs a precision without a loss scale"),
        ({"stream_blocks": True}, "stream_blocks needs --step-in-backward and --gradient-checkpointing all"),
        ({"stream_blocks": True, "step_in_backward": True}, "stream_blocks needs --step-in-backward and"),
        (
            {"shard": True, "precision": "bf16"},
            "shard updates all tensors at once, which does not combine with precision bf16; use",
        ),
        (
            {"shard": True, "optimizer_states": "4bit"},
            "does not combine with optimizer_states 4bit; use --memory-preset fast or 24gb",
        ),
        (
            {"shard": True, "step_in_backward": True, "states_on_host": True},
            "does not combine with step_in_backward, states_on_host; use",
        ),
        ({"shard": True, "stream_blocks": True}, "does not combine with stream_blocks; use"),
    ],
)
def test_contradictions_are_named(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        chosen("fast", **choices)


def test_the_levers_that_are_left_can_all_be_pulled() -> None:
    for preset in PRESETS.keys() - {"cpu"}:
        for flag in levers_left(PRESETS[preset]):
            name, _, value = flag.removeprefix("--").partition(" ")
            pulled = chosen(preset, **{name.replace("-", "_"): value or True})
            assert pulled != PRESETS[preset]
            assert pulled.precision == PRESETS[preset].precision
            assert pulled.optimizer_states == PRESETS[preset].optimizer_states
    assert levers_left(chosen("6gb", states_on_host=True, stream_blocks=True)) == ()
    assert levers_left(chosen("fast", shard=True)) == ("--gradient-checkpointing all", "--micro-batch-size 1")


@pytest.mark.parametrize("preset", ["fast", "24gb", "cpu"])
def test_the_presets_with_an_optimizer_over_all_tensors_can_be_spread(preset: Any) -> None:
    assert chosen(preset, shard=True) == replace(PRESETS[preset], shard=True)


def test_what_makes_the_optimizer_work_by_tensors() -> None:
    assert not MemoryPlan("bf16-mixed", gradient_checkpointing="all", micro_batch_size=1).saves_in_optimizer
    for choice in ({"states_on_host": True}, {"step_in_backward": True}, {"optimizer_states": "8bit"}, {"precision": "bf16"}):
        assert chosen("fast", **choice).saves_in_optimizer, choice


def test_a_plan_is_told_in_words() -> None:
    assert describe_plan(PRESETS["fast"]) == "bf16-mixed, optimizer states in float32, activations kept"
    told = describe_plan(chosen("6gb", states_on_host=True, stream_blocks=True))
    assert told == (
        "bf16, optimizer states in 8bit, activations recomputed, updates inside the backward pass, "
        "optimizer states in host memory, streamed blocks"
    )
    assert "1 examples at a time" in describe_plan(chosen("8gb", micro_batch_size=1))
