"""The memory of a run is predicted from its plan, without weights and without a device."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from dreambooth.config import parse_settings
from dreambooth.data.records import Photo
from dreambooth.data.settings import ViewSettings
from dreambooth.data.size import Size
from dreambooth.estimate import peak
from dreambooth.estimate.peak import WORKSPACE, MemoryEstimate, MemoryUse, Phase, describe_estimate, estimate_memory
from dreambooth.estimate.traces import (
    Sampling,
    Updates,
    decoding_bytes,
    encoding_bytes,
    part_bytes,
    sampling_bytes,
    scratch_bytes,
    state_bytes,
)
from dreambooth.estimate.workload import Workload
from dreambooth.families.family import Family
from dreambooth.families.full_size import full_size_stable_diffusion_1, full_size_stable_diffusion_xl
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.sdxl import StableDiffusionXL
from dreambooth.families.unet_blocks import unet_blocks
from dreambooth.families.untrained import without_memory
from dreambooth.memory.plan import PRESETS, MemoryPlan, plan_of
from dreambooth.memory.settings import MemorySettings
from dreambooth.schema.presets import read_preset
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainees.full import full_trainee
from dreambooth.trainees.settings import LoraKind, TraineeSettings
from dreambooth.trainer.workload import buckets_of, workload_of
from dreambooth.training.settings import OptimizerSettings
from dreambooth.training.tensor_updates import AdafactorUpdate, AdamWUpdate, Change, Moment
from dreambooth.weights.lora_keys import num_lora_parameters

FULL_SIZE = full_size_stable_diffusion_1()
UNET_ALONE = TraineeSettings(train_text_encoder=False)
UNET_NUMBERS, TEXT_NUMBERS, VAE_NUMBERS = 859_520_964, 123_060_480, 83_653_863
WORK = Workload(
    size=Size.square(128),
    num_examples=2,
    gradient_accumulation=1,
    trainee=UNET_ALONE,
    keeps_average=False,
    optimizer="adamw",
    class_images=Sampling(4, is_guided=True),
    previews=Sampling(1, is_guided=True),
)
SMALL = MemoryPlan("bf16", optimizer_states="8bit", gradient_checkpointing="all", step_in_backward=True)
GB = 1e9


def use(estimate: MemoryEstimate, name: str) -> MemoryUse:
    return next(phase.use for phase in estimate.phases if phase.name == name)


@pytest.mark.slow
def test_the_smallest_preset_at_full_size() -> None:
    work = replace(WORK, size=Size.square(512))
    estimate = estimate_memory(FULL_SIZE, PRESETS["6gb"], work)
    step = use(estimate, "training step")
    assert step.weights == pytest.approx(2 * UNET_NUMBERS, rel=2e-4) and step.weights >= 2 * UNET_NUMBERS
    assert step.states == pytest.approx(2 * UNET_NUMBERS * (1 + 4 / 256), rel=5e-3)
    assert step.gradients < 0.1 * GB  # one tensor's
    assert 0.1 * GB < step.activations < 0.6 * GB
    previews = use(estimate, "previews")
    assert previews.weights == pytest.approx(2 * UNET_NUMBERS + 4 * VAE_NUMBERS, rel=1e-3)
    assert 0.5 * GB < previews.activations < 2 * GB  # one picture out of the VAE in float32
    assert previews.states == step.states and previews.gradients == 0
    assert use(estimate, "class images").states == use(estimate, "encoding").states == 0
    assert estimate.peak == max(phase.use.total for phase in estimate.phases)


@pytest.mark.slow
def test_mixed_precision_at_full_size() -> None:
    estimate = estimate_memory(FULL_SIZE, PRESETS["24gb"], replace(WORK, size=Size.square(512), trainee=TraineeSettings()))
    step = use(estimate, "training step")
    numbers = UNET_NUMBERS + TEXT_NUMBERS
    assert step.weights == pytest.approx(4 * numbers, rel=2e-4)
    assert step.states == pytest.approx(8 * numbers, rel=2e-4)
    assert step.scratch == 0  # torch's fused optimizer works in place
    assert 4 * numbers < step.gradients + step.activations < 4 * numbers + 3 * GB


@pytest.mark.slow
@pytest.mark.parametrize(("card", "limit"), [(6, 6), (10, 9.5), (24, 24)])
def test_the_unet_of_stable_diffusion_xl_fits_the_cards_of_its_presets(card: int, limit: float) -> None:
    """At 1024 pixels, with class images and previews. Other trainers need 10 GB for the second."""
    _, preset = read_preset(f"sdxl-{card}gb")
    memory, trainee = MemorySettings(**preset["memory"]), TraineeSettings(**preset["trainee"])
    plan = plan_of(memory.memory_preset, memory, has_bfloat16=True)
    assert plan == PRESETS[memory.memory_preset]
    work = replace(WORK, size=Size.square(1024), trainee=trainee)
    estimate = estimate_memory(full_size_stable_diffusion_xl(), plan, work)
    assert trainee == UNET_ALONE and plan.optimizer_states == "8bit" and len(estimate.phases) == 4
    assert 0.4 * limit < estimate.peak / GB < limit


def step_of(family: StableDiffusion1, plan: MemoryPlan, work: Workload = WORK) -> MemoryUse:
    return use(estimate_memory(family, plan, work), "training step")


@pytest.mark.parametrize("kind", ["lora", "loha"])
def test_a_lora_keeps_the_model_in_the_format_of_the_arithmetic_and_little_beside_it(
    kind: LoraKind, miniature: StableDiffusion1
) -> None:
    lora = TraineeSettings(trainee="lora", rank=4, lora_kind=kind)
    numbers = num_lora_parameters(miniature, lora)
    work, names = replace(WORK, trainee=lora), ("unet", "text_encoder")
    step = step_of(miniature, replace(PRESETS["24gb"], optimizer_states="float32"), work)
    assert step.weights == sum(part_bytes(miniature, name, torch.bfloat16) for name in names) + 4 * numbers
    assert (step.states, step.gradients <= 4 * numbers) == (8 * numbers, True)
    exact = step_of(miniature, MemoryPlan("fp32"), work)
    assert exact.weights == sum(part_bytes(miniature, name, torch.float32) for name in names) + 4 * numbers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("card", "family", "side", "limit"), [(4, FULL_SIZE, 512, 2.5), (8, full_size_stable_diffusion_xl(), 1024, 7)]
)
def test_a_lora_of_rank_16_fits_a_small_card(card: int, family: Family, side: int, limit: float) -> None:
    """With a photo and a class image in each step. Other trainers need 2.87 GB and about 10 GB."""
    _, preset = read_preset(f"lora-{card}gb")
    memory, lora = MemorySettings(**preset["memory"]), TraineeSettings(**preset["trainee"])
    plan = plan_of(memory.memory_preset, memory, has_bfloat16=True)
    work = replace(WORK, size=Size.square(side), trainee=lora)
    assert (lora.rank, work.num_examples, lora.train_text_encoder) == (16, 2, True)
    assert estimate_memory(family, plan, work).peak <= limit * GB


@pytest.mark.slow
def test_more_recomputing_needs_less(miniature: StableDiffusion1) -> None:
    work = replace(WORK, size=Size.square(512), num_examples=8)
    activations = [
        step_of(miniature, replace(SMALL, gradient_checkpointing=where), work).activations for where in ("off", "outer", "all")
    ]
    assert activations[0] > 1.5 * activations[1] >= 1.5 * activations[2] > 0


@pytest.mark.slow
def test_states_shrink_with_their_format_and_leave_for_the_host(miniature: StableDiffusion1) -> None:
    states = [step_of(miniature, replace(SMALL, optimizer_states=name)).states for name in ("float32", "8bit", "4bit")]
    assert states[0] > 3 * states[1] and states[1] > 1.5 * states[2] > 0
    assert step_of(miniature, replace(SMALL, states_on_host=True)).states == 0
    assert step_of(miniature, SMALL, replace(WORK, optimizer="adafactor")).states < states[2] / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "states", "chosen"),
    [
        ("adamw", "float32", UNET_ALONE),
        ("adamw", "8bit", TraineeSettings()),
        ("adamw", "4bit", UNET_ALONE),
        ("adafactor", "float32", TraineeSettings(train_token_table=False)),
    ],
)
def test_states_are_those_that_the_optimizer_keeps(miniature: StableDiffusion1, optimizer, states, chosen) -> None:
    components, device = without_memory(miniature), torch.device("meta")
    settings = OptimizerSettings(optimizer=optimizer)
    update = (
        AdafactorUpdate(settings, device)
        if optimizer == "adafactor"
        else AdamWUpdate(settings, states, device, on_host=False, at_once=2**16)
    )
    moment = Moment(1, torch.zeros((), dtype=torch.bool, device=device), torch.ones((), device=device))
    trainee = full_trainee(components, chosen, learning_rate=1.0)
    with torch.no_grad():
        update.begin(moment)
        for name, parameter in trainee.parameters.items():
            parameter.grad = torch.empty_like(parameter)
            update.add(Change(name, parameter, 1.0, (0, 0)))
        update.finish()
    kept = sum(-(-tensor.nbytes // 512) * 512 for tensor in update.state().values())
    assert state_bytes(miniature, chosen, optimizer=optimizer, states=states) == kept


def test_gradients_exist_together_unless_they_are_used_up(miniature: StableDiffusion1) -> None:
    work = replace(WORK, size=Size.square(32))  # so small that the optimizer's moment is the fullest
    together, one_by_one = step_of(miniature, replace(SMALL, step_in_backward=False), work), step_of(miniature, SMALL, work)
    assert together.gradients == together.weights
    assert one_by_one.gradients < together.gradients / 4
    assert one_by_one.scratch > 0


@pytest.mark.slow
def test_gradients_of_an_earlier_pass_are_there_in_the_next(miniature: StableDiffusion1) -> None:
    plan, work = MemoryPlan("fp32"), replace(WORK, size=Size.square(512))
    whole, cut = step_of(miniature, plan, work), step_of(miniature, replace(plan, micro_batch_size=1), work)
    twice = step_of(miniature, plan, replace(work, gradient_accumulation=2))
    assert whole.gradients < cut.gradients == twice.gradients
    assert cut.activations < 0.6 * twice.activations


def test_batches_bound_what_the_optimizer_works_on() -> None:
    """Half a byte for each number of the model, and never more than 2^24 numbers at once."""
    small, large = (torch.Size([count, 1024]) for count in (2**10, 2**15))
    adamw, adafactor = (Updates(name, "8bit", is_streamed=False) for name in ("adamw", "adafactor"))
    for total in (10**7, 10**9, 10**10):
        scratch = scratch_bytes(adamw, torch.bfloat16, (large,), total=total)
        assert 0.01 * total < scratch < 0.6 * total if total <= 10**9 else scratch < 0.5 * GB
    one, several = (scratch_bytes(adamw, torch.bfloat16, (small,) * count, total=10**9) for count in (1, 8))
    assert several == pytest.approx(8 * one, rel=1e-3)
    assert scratch_bytes(replace(adamw, is_streamed=True), torch.bfloat16, (large,), total=10**9) < 0.05 * GB
    assert scratch_bytes(adafactor, torch.bfloat16, (large,), total=10**9) > 20 * large.numel()


def test_only_the_largest_streamed_block_is_on_the_device(miniature: StableDiffusion1) -> None:
    unet = without_memory(miniature).denoiser
    sizes = [sum(2 * weight.numel() for weight in block.parameters()) for block in unet_blocks(unet)]
    whole, streamed = step_of(miniature, SMALL), step_of(miniature, replace(SMALL, stream_blocks=True))
    assert whole.weights - streamed.weights == pytest.approx(sum(sizes) - max(sizes), rel=0.1)
    assert whole.states == streamed.states
    assert streamed.gradients <= whole.gradients  # they do not wait for others: the weights leave the device


def test_an_average_is_kept_in_float32(miniature: StableDiffusion1) -> None:
    work = replace(WORK, keeps_average=True)
    numbers = sum(weight.numel() for weight in without_memory(miniature).denoiser.parameters())
    estimate = estimate_memory(miniature, MemoryPlan("fp32"), work)
    assert use(estimate, "previews").average == pytest.approx(4 * numbers, rel=0.1)
    assert use(estimate, "previews").scratch == 0
    short = estimate_memory(miniature, SMALL, work)
    assert use(short, "previews").scratch == pytest.approx(2 * numbers, rel=0.2)  # the average in the weights' format


def test_phases_that_do_not_happen_are_not_there(miniature: StableDiffusion1) -> None:
    phases = [phase.name for phase in estimate_memory(miniature, SMALL, WORK).phases]
    assert phases == ["class images", "encoding", "training step", "previews"]
    phases = [phase.name for phase in estimate_memory(miniature, SMALL, replace(WORK, class_images=None, previews=None)).phases]
    assert phases == ["encoding", "training step"]


def test_pictures_made_at_once_and_guidance_need_more(miniature: StableDiffusion1) -> None:
    work = replace(WORK, size=Size.square(512))

    def pictures(count: int, *, is_guided: bool) -> int:
        changed = replace(work, class_images=Sampling(count, is_guided=is_guided))
        return use(estimate_memory(miniature, SMALL, changed), "class images").activations

    assert pictures(64, is_guided=True) > 1.9 * pictures(64, is_guided=False) > 3 * pictures(16, is_guided=False)


def test_previews_of_float32_weights_keep_copies_in_16_bits(miniature: StableDiffusion1) -> None:
    sampled = sampling_bytes(
        miniature,
        Sampling(1, is_guided=True),
        size=Size.square(32),
        weight_dtype=torch.float32,
        compute_dtype=torch.bfloat16,
        is_learning=True,
    )
    numbers = sum(
        module.weight.numel()
        for module in without_memory(miniature).denoiser.modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    )
    assert sampled > 2 * numbers


SETTINGS = {"base": {"model": "toybox"}, "subject": {"photos": "photos", "class_word": "dog"}}


def test_what_settings_ask_for() -> None:
    plain = parse_settings(TrainSettings, SETTINGS, where="here")
    assert workload_of(plain, Size.square(512)) == replace(WORK, size=Size.square(512), trainee=TraineeSettings())
    given = parse_settings(
        TrainSettings,
        {
            **SETTINGS,
            "prior": {"prior_weight": 0},
            "loop": {"batch_size": 3, "gradient_accumulation": 5, "ema_decay": 0.9},
            "optimizer": {"optimizer": "adafactor"},
            "trainee": {"train_text_encoder": False},
            "output": {"preview_steps": 0},
        },
        where="here",
    )
    assert workload_of(given, Size.square(64)) == Workload(Size.square(64), 3, 5, UNET_ALONE, True, "adafactor", None, None)
    named = parse_settings(
        TrainSettings,
        {**SETTINGS, "prior": {"prior_images": "dogs"}, "output": {"preview_guidance_scale": 1}},
        where="here",
    )
    work = workload_of(named, Size.square(64))
    assert (work.num_examples, work.class_images, work.previews) == (2, None, Sampling(1, is_guided=False))
    made = parse_settings(
        TrainSettings, {**SETTINGS, "prior": {"prior_batch_size": 7, "prior_guidance_scale": 1}}, where="here"
    )
    assert workload_of(made, Size.square(64)).class_images == Sampling(7, is_guided=False)


WIDE, TALL = Size(48, 80), Size(80, 48)


def photo(width: int, height: int) -> Photo:
    return Photo(Path("a.jpg"), "a", width, height, None)


def test_buckets_are_those_of_the_photos() -> None:
    photos = [photo(300, 200), photo(200, 300), photo(310, 200)]
    assert buckets_of(photos, Size.square(64), ViewSettings(crop="bucket"), 8) == (WIDE, TALL)
    assert buckets_of(photos, Size.square(64), ViewSettings(crop="random"), 8) == ()


def test_the_largest_bucket_that_occurs_is_planned_for() -> None:
    settings = parse_settings(TrainSettings, {**SETTINGS, "views": {"crop": "bucket"}}, where="here")
    several = workload_of(settings, Size.square(64), buckets=(Size(40, 80), WIDE))
    assert (several.size, several.preview_size, several.has_buckets) == (WIDE, Size.square(64), True)
    same = workload_of(settings, Size.square(64), buckets=(WIDE,))
    assert (same.size, same.preview_size, same.has_buckets) == (WIDE, Size.square(64), False)
    unknown = workload_of(settings, Size.square(64))
    assert (unknown.size, unknown.preview_size, unknown.has_buckets) == (Size.square(64), Size.square(64), True)


def test_class_images_and_photos_have_the_size_of_the_bucket_and_previews_are_squares(
    miniature: StableDiffusion1, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[Size] = []

    def record(family: Family, *given: object, size: Size | None = None, **_: object) -> int:
        sizes.append(size or next(one for one in given if isinstance(one, Size)))
        return 0

    for name in ("sampling_bytes", "decoding_bytes", "encoding_bytes"):
        monkeypatch.setattr(peak, name, record)
    run = peak._PlannedRun(miniature, PRESETS["fast"], replace(WORK, size=WIDE, square=Size.square(64)))
    run.class_images(Sampling(4, is_guided=True))
    run.encoding()
    assert sizes == 3 * [WIDE]
    run.previews(Sampling(1, is_guided=True))
    assert sizes[3:] == 2 * [Size.square(64)]


@pytest.mark.parametrize(
    ("prior", "sampling"),
    [({}, Sampling(4, is_guided=True)), ({"replay": False}, None), ({"original_pairing": True}, None)],
)
def test_images_of_earlier_subjects_are_generated_where_class_images_are_given(prior, sampling) -> None:
    settings = parse_settings(TrainSettings, {**SETTINGS, "prior": {"prior_images": "dogs", **prior}}, where="here")
    assert workload_of(settings, Size.square(64), knows_subjects=True).class_images == sampling
    assert workload_of(settings, Size.square(64)).class_images is None


def test_one_line_says_it_all() -> None:
    gib = 2**30
    first, second = Phase("encoding", MemoryUse(weights=gib)), Phase("previews", MemoryUse(weights=gib, states=gib // 2))
    estimate = MemoryEstimate((first, second))
    assert estimate.largest is second and estimate.peak == gib + gib // 2 + WORKSPACE
    parts = "in the phase 'previews' (weights 1.00, states 0.50, workspace 0.50)"
    assert describe_estimate(estimate, 6 * gib) == f"Predicted peak memory: 2.00 of 6.00 GiB free, {parts}"
    assert describe_estimate(estimate, None) == f"Predicted peak memory: 2.00 GiB, {parts}"


def test_a_frozen_table_of_words_has_a_weight_alone(miniature: StableDiffusion1) -> None:
    plan = replace(SMALL, step_in_backward=False, optimizer_states="float32")
    whole = step_of(miniature, plan, replace(WORK, trainee=TraineeSettings(), size=Size.square(32)))
    frozen = step_of(miniature, plan, replace(WORK, trainee=TraineeSettings(train_token_table=False), size=Size.square(32)))
    table = 49408 * 64
    assert whole.weights == frozen.weights
    assert whole.gradients - frozen.gradients == 2 * table
    assert whole.states - frozen.states == 8 * table


def test_a_picture_costs_the_same_whatever_was_estimated_before(miniature: StableDiffusion1) -> None:
    """The first estimate of a family builds its modules, whose weights are no part of what a picture costs."""
    for number, trace in enumerate((decoding_bytes, encoding_bytes)):
        fresh = replace(miniature, resolution=320 + 64 * number)
        first = trace(fresh, Size.square(64))
        trace.cache_clear()
        assert trace(fresh, Size.square(64)) == first


def test_sharding_divides_what_is_trained_and_not_what_visits(miniature: StableDiffusion1) -> None:
    plan = MemoryPlan("fp32", shard=True)
    alone, four = (estimate_memory(miniature, plan, replace(WORK, num_processes=count)) for count in (1, 4))
    one, other = use(alone, "training step"), use(four, "training step")
    assert (other.weights, other.states) == (math.ceil(one.weights / 4), math.ceil(one.states / 4))
    assert other.activations == one.activations
    assert use(alone, "encoding") == use(four, "encoding")


def test_frozen_text_encoders_are_there_only_while_they_encode(miniature_xl: StableDiffusionXL) -> None:
    """Those of Stable Diffusion XL need 3.3 GB in float32, which would be the peak of a run that trains the UNet alone."""
    plan, work = replace(SMALL, states_on_host=True, stream_blocks=True), replace(WORK, trainee=UNET_ALONE)
    small = estimate_memory(miniature_xl, plan, work)
    texts = sum(part_bytes(miniature_xl, name, torch.float32) for name in miniature_xl.text_encoders)
    vae = part_bytes(miniature_xl, "vae", torch.float32)
    assert use(small, "training step").weights < texts  # so that they are the peak of both phases around it, without any UNet
    rest = use(small, "encoding").weights - texts
    assert use(small, "class images").weights == rest + texts + vae
    assert rest < use(small, "training step").weights
    one = estimate_memory(miniature_xl, plan, replace(work, trainee=TraineeSettings(text_encoders="second")))
    kept = part_bytes(miniature_xl, "text_encoder", torch.bfloat16)
    assert use(one, "training step").weights > kept + part_bytes(miniature_xl, "text_encoder_2", torch.bfloat16)
