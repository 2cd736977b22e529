"""Every verb at its smallest size: its records have their fields, and the numbers agree with each other."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import compare_original, load, presets, workload
from benchmarks.cold_start import scaled_seconds
from benchmarks.load import write_random_model
from benchmarks.models import Part, family_of, random_components
from benchmarks.original_loop import start_original
from benchmarks.presets import Losses, compared
from benchmarks.workload import StepChoices, start_run
from dreambooth.diffusion.randomness import normal
from dreambooth.weights.read import read_model

Measured = Callable[..., list[dict[str, Any]]]
CPU = torch.device("cpu")
FLOAT32 = Part(CPU, torch.float32)
AROUND = {"device", "threads", "load_average", "torch", "cuda", "driver", "diffusers", "transformers", "dreambooth", "commit"}
SMALL = ("--size", "miniature", "--device", "cpu")


@pytest.fixture(autouse=True)
def quick_matmul(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.measure._CPU_SIDES", (64,))


@pytest.mark.slow
def test_a_step_of_training_is_measured_with_every_switch(measured: Measured) -> None:
    options = (
        "--memory-preset",
        "6gb",
        "--optimizer-states",
        "4bit",
        "--no-train-text-encoder",
        "--steps",
        "2",
        "--warmup",
        "1",
    )
    (record,) = measured("train-step", *SMALL, *options)
    assert record.keys() >= AROUND | {"ms", "ms_10", "ms_90", "first_ms", "peak_allocated_gb", "peak_reserved_gb", "attention"}
    assert record["ms_10"] <= record["ms"] <= record["ms_90"]
    assert 0 < record["images_per_s"] == pytest.approx(2 * record["steps_per_s"], rel=1e-3)
    share = record["tflop_per_step"] / (record["ms"] / 1000) / record["matmul_tflops"]
    assert record["share_of_matmul_peak"] == pytest.approx(share, abs=1e-4)
    assert (record["plan_optimizer_states"], record["plan_precision"], record["plan_step_in_backward"]) == (
        "4bit",
        "bf16",
        True,
    )
    assert (record["train_text_encoder"], record["channels_last"], record["resolution"]) == (False, False, 64)
    assert record["predicted_peak_bytes"] > 2**29
    assert record["iterations"] == 2


@pytest.mark.slow
def test_recomputing_shows_in_the_count_and_not_in_the_losses() -> None:
    """The product's own path: the same seed gives the same losses under a plan that changes no number."""
    plain = start_run(family_of("miniature"), StepChoices({"memory_preset": "cpu"}), device=CPU)
    recomputed = {"memory_preset": "cpu", "gradient_checkpointing": "all", "micro_batch_size": 1}
    other = start_run(family_of("miniature"), StepChoices(recomputed), device=CPU)
    assert (len(list(plain.batches_at(1))), len(list(other.batches_at(1)))) == (1, 2)
    for _ in range(2):
        assert next(other.steps).loss == pytest.approx(next(plain.steps).loss, rel=1e-5)
    assert workload_flops(other) > 1.2 * workload_flops(plain)


def workload_flops(run: workload.SyntheticRun) -> int:
    from benchmarks.measure import count_flops

    return count_flops(lambda: next(run.steps))


def test_random_weights_keep_the_size_of_signals_and_depend_on_the_seed() -> None:
    first, again, other = (
        random_components(family_of("miniature"), unet=FLOAT32, text_encoder=FLOAT32, vae=None, seed=seed) for seed in (1, 1, 2)
    )
    weight, same = (one.denoiser.conv_in.weight for one in (first, again))
    assert torch.equal(weight, same)
    assert not torch.equal(weight, other.denoiser.conv_in.weight)
    assert float(weight.std()) == pytest.approx((4 * 9) ** -0.5, rel=0.1)
    assert float(first.denoiser.conv_norm_out.weight.min()) == 1
    assert next(first.vae.parameters()).is_meta
    positions = dict(first.parts["text_encoder"].named_buffers())
    assert all(torch.equal(one, torch.arange(77).unsqueeze(0)) for one in positions.values())


def test_a_part_is_made_in_its_own_number_format() -> None:
    part = Part(CPU, torch.bfloat16)
    components = random_components(family_of("miniature"), unet=part, text_encoder=FLOAT32, vae=FLOAT32, seed=0)
    formats = {one.dtype for one in components.denoiser.parameters()}, {one.dtype for one in components.vae.parameters()}
    assert formats == ({torch.bfloat16}, {torch.float32})


@pytest.mark.slow
def test_the_original_makes_two_forward_passes_with_pictures_and_captions_in_each_step(measured: Measured) -> None:
    (record,) = measured("original-loop", *SMALL, "--steps", "2", "--warmup", "1")
    (_, without) = measured("original-loop", *SMALL, "--steps", "2", "--warmup", "1", "--no-encode-pictures")
    assert record["original_encodes_pictures"]
    assert 0 < without["tflop_per_step"] < record["tflop_per_step"]


@pytest.mark.parametrize("encodes", [True, False])
def test_the_originals_loss_is_the_sum_of_two_means(encodes: bool) -> None:
    """Against the formula with the draws repeated: role by role the posterior, the timestep, the noise."""
    loop = start_original(
        family_of("miniature"), device=CPU, resolution=64, batch_size=2, encodes_pictures=encodes, recomputes=False, seed=3
    )
    family, parts = loop.components.family, loop.components
    draws = torch.Generator()
    draws.set_state(loop.generator.get_state())
    expected = 0.0
    with torch.no_grad():
        for role in ("instance", "prior"):
            moments = family.encode_pixels(parts.vae, loop.pixels[role])
            x_0 = family.sample_latents(moments, torch.randn(moments.mean.shape, generator=draws))
            t_B = torch.randint(0, 1000, (2,), generator=draws)
            eps = torch.randn(x_0.shape, generator=draws)
            alpha_bar = family.schedule.alpha_bar_T[t_B].float().reshape(-1, 1, 1, 1)
            ids = family.tokenize(parts.tokenizer, [workload.CAPTIONS[role]] * 2)
            text = family.encode_text(parts.parts, ids)
            predicted = family.predict(parts.denoiser, alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps, t_B, text)
            expected += float((predicted - eps).square().mean())
    before = parts.parts["text_encoder"].state_dict()["embeddings.token_embedding.weight"][320].clone()
    assert float(loop.step()) == pytest.approx(expected, rel=1e-5)
    after = parts.parts["text_encoder"].state_dict()["embeddings.token_embedding.weight"][320]
    assert not torch.equal(before, after), "the text encoder learns too"


def test_both_loops_run_in_turns_and_the_ratio_is_that_of_their_medians(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    times = {"ours": iter([2.0, 4.0, 30.0, 2.0]), "original": iter([8.0, 8.0, 8.0, 10.0])}

    def timed(step: Callable[[], object], _device: torch.device) -> float:
        name = "original" if "OriginalLoop" in repr(step) else "ours"
        order.append(name)
        return next(times[name])

    monkeypatch.setattr(compare_original, "time_once", timed)
    clock = iter([0.0, 2.0, 2.0, 6.0, 6.0, 7.0, 7.0, 9.0])
    monkeypatch.setattr(compare_original, "time", SimpleNamespace(process_time=clock.__next__))
    (record,) = measured("compare-original", *SMALL, "--blocks", "2", "--block-steps", "2", "--warmup", "1")
    assert order == ["ours", "ours", "original", "original"] * 2
    assert (record["ours_ms"], record["original_ms"], record["ratio"]) == (3, 8, 0.375)
    assert record["processor_ratio"] == 0.5


@pytest.mark.slow
def test_presets_are_compared_with_float32(measured: Measured) -> None:
    records = measured("presets", "--size", "miniature", "--steps", "3", "--last", "2", "--variants", "8gb", "--device", "cpu")
    assert [record["variant"] for record in records] == ["fp32", "8gb"]
    exact, small = records
    assert (exact["plan_precision"], small["plan_precision"]) == ("fp32", "bf16")
    assert exact["training_difference"] == exact["prior_difference"] == 0
    assert 0 < abs(small["training_difference"]) < 0.03
    assert small["instance_difference"] == pytest.approx(small["instance_loss"] / exact["instance_loss"] - 1)


def test_a_difference_is_a_part_of_float32s_loss() -> None:
    exact = Losses(2.0, {"prior": 9.0}, {"prior": 4.0})
    found = compared(Losses(2.02, {"prior": 9.0}, {"prior": 3.0}), exact)
    assert found["training_difference"] == pytest.approx(0.01)
    assert found["prior_difference"] == -0.25


def test_class_images_are_timed_by_batches_and_their_files_apart(measured: Measured) -> None:
    options = ("--num-images", "3", "--batch-size", "2", "--sampling-steps", "3", "--sampler", "dpm++", "--scale-to", "30")
    (record,) = measured("sample", *SMALL, *options)
    assert record["images_per_s"] == pytest.approx(3 / record["seconds"], rel=0.01)
    assert record["png_ms_per_image"] > 0
    whole = record["seconds"] + 3 * record["png_ms_per_image"] / 1000
    assert record["scaled_seconds"] == pytest.approx(10 * whole, abs=0.01)
    assert record["scaled_note"].startswith("not measured")
    assert 0 < record["tflop_per_image_outside_of_the_unet"] < record["tflop_per_image"]


def test_a_models_file_is_read_and_written(tmp_path: Path) -> None:
    """The child's work in this process; the verb itself starts it several times."""
    file = tmp_path / "model.ckpt"
    load.main("miniature", file)
    read = read_model(str(file))
    assert read.family.unet == family_of("miniature").unet
    assert read.report.leftover == ()
    assert {tensor.dtype for tensor in read.parts["unet"].values()} == {torch.float32}
    assert read.parts["unet"]["conv_norm_out.weight"].eq(1).all()


@pytest.mark.slow
def test_a_childs_peak_and_seconds_come_back(tmp_path: Path) -> None:
    source, destination = tmp_path / "model.safetensors", tmp_path / "again.safetensors"
    write_random_model(source, family_of("miniature"), dtype=torch.float32, device=CPU)
    result = load._child("convert", source, destination)
    assert 0 < result["processor"] < 60
    assert result["seconds"] > 0
    assert result["peak"] > 10**8
    assert destination.stat().st_size < 0.6 * source.stat().st_size


def test_plain_reading_and_writing_takes_time_and_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(bytes(2**20))
    plain = load._plain(source, tmp_path / "plain", 2**20)
    assert plain["read"] > 0
    assert plain["write"] > 0
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_a_whole_run_is_measured_from_its_file(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.cold_start.import_seconds", lambda: 5.0)
    options = (
        "--steps",
        "2",
        "--num-prior-images",
        "2",
        "--prior-sampling-steps",
        "2",
        "--scale-steps",
        "2",
        "--scale-images",
        "2",
    )
    (record,) = measured("cold-start", *SMALL, *options)
    assert record["jobs"]["class images"] > 0
    assert record["seconds"] >= record["phases"]["until_step"]
    assert record["scaled_note"].startswith("not measured")


def test_the_length_of_a_full_run_is_scaled_part_by_part() -> None:
    arguments = argparse.Namespace(steps=40, num_prior_images=16, scale_steps=800, scale_images=200)
    phases = {"until_step": 2.0, "until_preview": 4.0, "until_validation": 1.0}
    more = 19 * 2 + 4 * (9 / 2 - 1) + 1 * (17 / 2 - 1) + 8 * (200 / 16 - 1)
    assert scaled_seconds(20.0, 8.0, phases, arguments) == pytest.approx(20 + more)


@pytest.mark.slow
def test_the_first_step_is_near_the_cpus(measured: Measured) -> None:
    exact, mixed = measured("smoke", "--device", "cpu", "--precisions", "fp32", "bf16-mixed")
    assert (exact["difference"], exact["is_near"]) == (0, True)
    assert 0 < mixed["difference"] < 0.03


def test_the_demo_tells_its_phases(measured: Measured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The demo itself has its own tests; here it only leaves events and a job."""
    from benchmarks import demo

    events = [("validation", 10.0), ("step", 12.5), ("step", 13.0), ("preview", 20.0)]

    def leave_events(settings: Any, display: Any) -> None:
        settings.output.mkdir()
        lines = [json.dumps({"event": name, "step": 1, "time": seconds}) for name, seconds in events]
        (settings.output / "events.jsonl").write_text("\n".join(lines), encoding="utf-8")
        with display.progress("class images", 3, "images") as advance:
            advance(3)

    monkeypatch.setattr(demo, "demo", leave_events)
    monkeypatch.setattr(demo, "import_seconds", lambda: 5.0)
    monkeypatch.setattr(demo, "time", SimpleNamespace(time=lambda: 0.0, monotonic=iter([1.0, 32.0]).__next__))
    (record,) = measured("demo", "--device", "cpu")
    assert record["seconds"] == 31
    assert record["phases"] == {
        "until_the_first_event": 10.0,
        "until_step": 3.0,
        "until_preview": 7.0,
        "after_the_last_event": -20.0,
    }
    assert record["job_counts"] == {"class images": 3}


def test_a_toybox_run_gives_its_last_and_validation_losses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    events = [{"event": "validation", "step": 0, "time": 0, "instance_loss": 3.0, "prior_loss": 4.0}]
    events += [{"event": "step", "step": step, "time": 0, "loss": float(step)} for step in (1, 2, 3)]
    events += [{"event": "validation", "step": 3, "time": 0, "instance_loss": 1.0, "prior_loss": 2.0}]

    def trained(settings: Any, _display: Any) -> None:
        assert settings.memory.memory_preset == "6gb"
        settings.output.output.mkdir(parents=True)
        lines = [json.dumps(event) for event in events]
        (settings.output.output / "events.jsonl").write_text("\n".join(lines), encoding="utf-8")

    monkeypatch.setattr(presets, "train", trained)
    arguments = argparse.Namespace(
        num_prior_images=2,
        prior_sampling_steps=2,
        learning_rate=1e-4,
        batch_size=1,
        steps=3,
        last=2,
        seed=1,
        device="cpu",
    )
    losses = presets._train_toybox("6gb", arguments, tmp_path)
    assert losses == Losses(2.5, {"instance": 3.0, "prior": 4.0}, {"instance": 1.0, "prior": 2.0})


def test_synthetic_latents_are_of_the_size_of_real_ones() -> None:
    run = start_run(family_of("miniature"), StepChoices({"memory_preset": "cpu"}), device=CPU, resolution=128)
    (batch,) = run.batches_at(1)
    assert batch.x_0.shape == (2, 4, 32, 32)
    assert float(batch.x_0.std()) == pytest.approx(1, rel=0.1)
    assert torch.equal(batch.eps[0], normal((4, 32, 32), 23, "noise", 1, "instance", 0))
