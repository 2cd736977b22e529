"""The main job end to end on the model that ships and real photos: what it writes, how it goes on, and what it refuses."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dreambooth.config import parse_settings, read_yaml
from dreambooth.display import Display, counted
from dreambooth.errors import DreamboothError, ModelFileError, PhotoError, RunError, SettingsError, TrainingError
from dreambooth.memory.plan import PRESETS, MemoryPlan
from dreambooth.recipes.train import resume, train
from dreambooth.runs.events import read_events
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.lock import exclusive
from dreambooth.runs.status import read_status
from dreambooth.schema.verbs import TrainSettings
from dreambooth.toybox.files import EMBEDDED_MODEL_FILE
from dreambooth.trainer.disk_space import run_bytes
from dreambooth.trainer.run_records import intervals_of, stored_of

MakeSettings = Callable[..., TrainSettings]
Command = Callable[..., subprocess.CompletedProcess[str]]

WITHOUT_PRIOR = {"prior_weight": 0, "num_prior_images": 200, "prior_sampling_steps": 50}


def _run_bytes(settings: TrainSettings, plan: MemoryPlan, *, num_trained: int, num_parameters: int) -> int:
    stored = stored_of(settings, num_trained=num_trained, num_parameters=num_parameters)
    return run_bytes(stored, intervals_of(settings), plan)


def tensors(run: Path, name: str = "model.safetensors") -> dict[str, torch.Tensor]:
    return load_file(run / name)


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def steps_of(run: Path, event: str = "step") -> list[int]:
    return [entry["step"] for entry in read_events(run / "events.jsonl") if entry["event"] == event]


@pytest.fixture(scope="session")
def base() -> dict[str, torch.Tensor]:
    """The model that ships, under the original's names."""
    return load_file(EMBEDDED_MODEL_FILE)


@pytest.mark.slow
def test_the_command_of_the_readme(dreambooth: Command, base: dict[str, torch.Tensor], photos: Path, tmp_path: Path) -> None:
    """One command from real photos to a model in the layout of its base."""
    done = dreambooth(
        *("train", "--model", EMBEDDED_MODEL_FILE, "--photos", photos, "--class-word", "backpack", "--token", "sks"),
        *("--steps", 20, "--num-prior-images", 8, "--prior-sampling-steps", 4, "--prior-batch-size", 8),
        *("--output", "runs/dog", "--checkpoint-steps", 10, "--preview-steps", 10, "--validation-steps", 5),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs" / "dog"
    model = tensors(run)
    assert set(model) == set(base)
    ids = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    for name, tensor in model.items():
        assert tensor.shape == base[name].shape
        assert tensor.dtype == (torch.int64 if name == ids else torch.float32 if "." not in name else torch.float16), name
    assert sorted(path.name for path in run.iterdir()) == [
        *(".lock", "checkpoints", "config.yaml", "events.jsonl", "model.safetensors", "models", "previews", "status.json")
    ]
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["step-000010", "step-000020"]
    assert [path.name for path in (run / "models").iterdir()] == ["step-000010.safetensors"]
    assert steps_of(run) == list(range(1, 21))
    assert steps_of(run, "validation") == [0, 5, 10, 15, 20]
    assert steps_of(run, "preview") == [0, 10, 20]
    names = ["00-photo-of-a-sks-backpack.png", "01-photo-of-a-backpack.png"]
    assert sorted(path.name for path in (run / "previews" / "step-000010").iterdir()) == names
    assert (run / "previews" / "over-time.png").is_file()
    assert "Each of the 8 class images was seen 2 to 3 times" in done.stdout
    assert "dreambooth generate --model runs/dog" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_model_says_what_made_it(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(loop={"steps": 1})
    result = train(settings, display)
    with safe_open(result.run / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["dreambooth.config"])["subject"]["token"] == "sks"
    made_of = json.loads(metadata["dreambooth.made_of"])
    assert [name for name in made_of if name.startswith("photo")] == [f"photo {n} (0{n}.jpg)" for n in range(3)]
    assert len(made_of["base model"]) == 64
    assert metadata["modelspec.trigger_phrase"] == "sks backpack"
    assert metadata["global_step"] == "1"


@pytest.mark.slow
def test_models_and_checkpoints_have_intervals_of_their_own(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(loop={"steps": 5}, output={"checkpoint_steps": 2, "model_steps": 3})
    run = train(settings, display, beside={"configs/note.txt": "as asked"}).run
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["step-000002", "step-000004", "step-000005"]
    assert [path.name for path in (run / "models").iterdir()] == ["step-000003.safetensors"]
    assert (run / "model.safetensors").exists()
    assert (run / "configs" / "note.txt").read_text() == "as asked"


def test_no_model_is_asked_for_but_the_last(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(loop={"steps": 2}, output={"checkpoint_steps": 1, "model_steps": 0})
    run = train(settings, display).run
    assert not (run / "models").exists() and (run / "model.safetensors").exists()

    def room(**output: int) -> int:
        asked = run_settings(loop={"steps": 100}, output={"checkpoint_steps": 10, "keep_checkpoints": 1, **output})
        return _run_bytes(asked, PRESETS["cpu"], num_trained=0, num_parameters=1000)

    assert room() - room(model_steps=0) == 9 * 2000
    assert room(model_steps=30) - room(model_steps=0) == 3 * 2000


@pytest.mark.slow
def test_a_run_made_longer_equals_a_long_run(run_settings: MakeSettings, display: Display, tmp_path: Path) -> None:
    switches = {"ema_decay": 0.9, "gradient_accumulation": 2}
    long = run_settings(loop={"steps": 4, **switches}, output={"output": str(tmp_path / "runs" / "long")})
    short = run_settings(loop={"steps": 2, **switches})
    train(long, display)
    train(short, display)
    resume(short.output.output, {"loop.steps": 4}, display)
    assert_equal(tensors(long.output.output), tensors(short.output.output))
    optimizer = "checkpoints/step-000004/optimizer.safetensors"
    assert_equal(tensors(long.output.output, optimizer), tensors(short.output.output, optimizer))
    assert steps_of(short.output.output) == [1, 2, 3, 4]
    assert read_yaml(short.output.output / "config.yaml")["loop"]["steps"] == 4


@pytest.mark.slow
def test_a_resume_clears_what_a_killed_preview_left(run_settings: MakeSettings, display: Display) -> None:
    """Seen once: killed while the first preview was written, a run kept its half picture for ever."""
    settings = run_settings(loop={"steps": 1})
    train(settings, display)
    half = settings.output.output / "previews" / "step-000000" / ".00-dog.png.partial-0123456789ab"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    resume(settings.output.output, {"loop.steps": 2}, display)
    assert not half.exists()


@pytest.mark.slow
def test_the_runs_own_config_and_a_filled_cache_repeat_it(
    run_settings: MakeSettings, display: Display, tmp_path: Path, said: Callable[[], str]
) -> None:
    first = run_settings()
    train(first, display)
    assert "encoding images" in said()
    before = len(said())
    again = read_yaml(first.output.output / "config.yaml")
    again["output"]["output"] = str(tmp_path / "runs" / "again")
    train(parse_settings(TrainSettings, again, where="config"), display)
    assert "encoding images" not in said()[before:]
    assert_equal(tensors(first.output.output), tensors(tmp_path / "runs" / "again"))


@pytest.mark.slow
def test_cutting_a_step_into_micro_batches_changes_only_rounding(
    run_settings: MakeSettings, display: Display, tmp_path: Path
) -> None:
    """The first update: later ones amplify rounding in the miniature, whose deepest level is one latent wide."""
    output = {"model_dtype": "float32"}
    whole = run_settings(loop={"steps": 1, "batch_size": 2}, output=output)
    cut = run_settings(
        loop={"steps": 1, "batch_size": 1, "gradient_accumulation": 2},
        output={**output, "output": str(tmp_path / "runs" / "cut")},
    )
    train(whole, display)
    train(cut, display)
    [one], [other] = (
        [entry for entry in read_events(settings.output.output / "events.jsonl") if entry["event"] == "step"]
        for settings in (whole, cut)
    )
    assert [other["loss"], other["instance_loss"], other["prior_loss"]] == pytest.approx(
        [one["loss"], one["instance_loss"], one["prior_loss"]], rel=1e-5
    )
    assert other["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3)


def test_a_frozen_text_encoder_and_the_vae_leave_as_they_came(
    run_settings: MakeSettings, display: Display, base: dict[str, torch.Tensor]
) -> None:
    settings = run_settings(base={"model": "toybox"}, trainee={"train_text_encoder": False}, loop={"steps": 1})
    train(settings, display)
    model = tensors(settings.output.output)
    frozen = [name for name in model if name.startswith(("first_stage_model.", "cond_stage_model."))]
    assert len(frozen) > 150
    assert all(torch.equal(model[name], base[name]) for name in frozen)


def test_every_part_moves_when_it_trains(run_settings: MakeSettings, display: Display, base: dict[str, torch.Tensor]) -> None:
    settings = run_settings(base={"model": "toybox"}, output={"model_dtype": "float32"}, loop={"steps": 1})
    train(settings, display)
    model = tensors(settings.output.output)
    trained = ("cond_stage_model.", "model.diffusion_model.")
    names = [name for name in model if name.startswith(trained) and not name.endswith("position_ids")]
    assert [name for name in names if torch.equal(model[name], base[name].float())] == []


def test_without_class_images(run_settings: MakeSettings, display: Display, tmp_path: Path, said: Callable[[], str]) -> None:
    settings = run_settings(prior=WITHOUT_PRIOR, loop={"steps": 1})
    train(settings, display)
    assert not (tmp_path / "runs" / "class-images").exists()
    assert "prior_loss" not in read_events(settings.output.output / "events.jsonl")[0]
    assert "class image" not in said()


@pytest.mark.slow
def test_a_second_subject_keeps_the_first_ones_class_images_in_the_mix(
    run_settings: MakeSettings, display: Display, tmp_path: Path, said: Callable[[], str]
) -> None:
    first = run_settings(loop={"steps": 1})
    train(first, display)
    [made] = (tmp_path / "runs" / "class-images").iterdir()
    second = run_settings(
        base={"model": str(first.output.output)},
        subject={"class_word": "bag", "token": "ohwx"},
        prior={"also_prior": [str(made)], "replay": False},
        loop={"steps": 2},
        output={"output": str(tmp_path / "runs" / "second")},
    )
    train(second, display)
    assert "Each of the 4 class images was seen 0 to 1 time" in said()
    with safe_open(tmp_path / "runs" / "second" / "model.safetensors", "pt") as file:
        made_of = json.loads(file.metadata()["dreambooth.made_of"])
    captions = {value.split(" ", 1)[1] for name, value in made_of.items() if name.startswith("class image")}
    assert captions == {"photo of a backpack", "photo of a bag"}


@pytest.mark.slow
def test_a_time_limit_stops_saved_and_resumes(run_settings: MakeSettings, display: Display, said: Callable[[], str]) -> None:
    settings = run_settings(loop={"steps": 3, "max_train_hours": 1e-9})
    result = train(settings, display)
    assert (result.step, result.model) == (1, None)
    assert (
        f"Time limit reached. Stopped. The run is saved at step 1. To resume:\n  dreambooth train --resume {result.run}"
        in said()
    )
    status = read_status(RunFolder(result.run))
    assert status is not None
    assert (status.state, status.reason) == ("stopped", "the time limit was reached")
    assert resume(result.run, {"loop.max_train_hours": 1}, display).step == 3
    status = read_status(RunFolder(result.run))
    assert status is not None
    assert status.state == "finished"


@pytest.mark.slow
def test_terminate_finishes_the_step_saves_and_says_resume_hint(
    run_settings: MakeSettings, display: Display, tmp_path: Path
) -> None:
    settings = run_settings(loop={"steps": 500})
    run = settings.output.output
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    command = [str(Path(sys.executable).with_name("dreambooth")), "train", "--preset", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not steps_of(run) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 143, output + errors
    last = steps_of(run)[-1]
    assert f"The run is saved at step {last}." in output + errors
    assert f"dreambooth train --resume {run}" in output + errors
    assert errors.startswith("Stopping after this step, then saving.") and errors.count("Stopping after") == 1
    assert [path.name for path in (run / "checkpoints").iterdir()] == [f"step-{last:06d}"]
    assert "Traceback" not in errors


def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(optimizer={"learning_rate": 1e30}, output={"checkpoint_steps": 1, "model_dtype": "float32"})
    expected = r"step 2: the loss is nan \(timesteps \d+, \d+; images 0\d.jpg, 0000\d.png\); the weights were not changed"
    with pytest.raises(TrainingError, match=expected) as caught:
        train(settings, display)
    text = str(caught.value)
    assert "The run is saved at step 1, but resuming would only reach the same value again." in text
    assert (
        "Start a new run with --learning-rate 1e+29 or --max-gradient-norm 1, for example:\n  dreambooth train --preset" in text
    )
    assert "dreambooth train --resume" not in text


def test_a_damaged_base_model_is_refused_before_training(
    run_settings: MakeSettings, display: Display, small_model: Path, tmp_path: Path
) -> None:
    weights = load_file(small_model)
    name = next(name for name in weights if name.startswith("model.diffusion_model.") and name.endswith("weight"))
    weights[name].view(-1)[0] = float("nan")
    save_file(weights, tmp_path / "damaged.safetensors")
    settings = run_settings(base={"model": str(tmp_path / "damaged.safetensors")}, prior=WITHOUT_PRIOR)
    with pytest.raises(ModelFileError, match=r"1 tensor with values that are not finite \(unet\.") as caught:
        train(settings, display)
    assert "The file is damaged: download it again" in str(caught.value)


@pytest.mark.slow
def test_a_loss_that_overflows_before_any_weight_moved_is_no_matter_of_the_learning_rate(
    run_settings: MakeSettings, display: Display, small_model: Path, tmp_path: Path
) -> None:
    weights = load_file(small_model)
    weights["model.diffusion_model.out.2.bias"] = torch.full_like(weights["model.diffusion_model.out.2.bias"], 1e30)
    save_file(weights, tmp_path / "large.safetensors")
    base, output = {"model": str(tmp_path / "large.safetensors")}, {"model_dtype": "float32"}
    settings = run_settings(base=base, prior=WITHOUT_PRIOR, output=output)
    with pytest.raises(TrainingError, match=r"step 1: the loss is inf") as caught:
        train(settings, display)
    assert "so the learning rate is not the cause.\nUse another --model" in str(caught.value)


def test_damaged_latents_are_made_again_and_change_nothing(
    run_settings: MakeSettings, display: Display, said: Callable[[], str]
) -> None:
    settings = run_settings(prior=WITHOUT_PRIOR, loop={"steps": 1}, output={"model_dtype": "float32"})
    expected = load_file(train(settings, display).run / "model.safetensors")
    cached = list((settings.output.output.parent / "latent-cache").rglob("*.safetensors"))
    for file in cached:
        save_file({name: torch.full_like(tensor, float("nan")) for name, tensor in load_file(file).items()}, file)
    output = {"output": str(settings.output.output) + "-2", "model_dtype": "float32"}
    again = train(run_settings(prior=WITHOUT_PRIOR, loop={"steps": 1}, output=output), display)
    assert f"{counted(len(cached), 'damaged latent')} in {settings.output.output.parent / 'latent-cache'}: made again" in said()
    found = load_file(again.run / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_run_without_preview_prompts_makes_no_previews(run_settings: MakeSettings, display: Display) -> None:
    output = {"preview_steps": 1, "preview_prompts": []}
    result = train(run_settings(loop={"steps": 1}, output=output), display)
    assert result.step == 1 and not (result.run / "previews").exists()


@pytest.mark.slow
def test_a_folder_in_which_nothing_was_trained_is_free(
    run_settings: MakeSettings, display: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = run_settings(loop={"steps": 1}, output={"preview_steps": 1})
    run = settings.output.output

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("dreambooth.recipes.train.training_steps", stop)
        train(settings, display)
    assert steps_of(run, "preview") == [0] and steps_of(run) == []
    faster = {"learning_rate": 2e-4}
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("dreambooth.recipes.train.training_steps", stop)
        resume(run, {"optimizer.learning_rate": 3e-4}, display)
    assert read_yaml(run / "config.yaml")["optimizer"]["learning_rate"] == 3e-4
    assert train(run_settings(loop={"steps": 1}, output={"preview_steps": 1}, optimizer=faster), display).step == 1
    assert steps_of(run, "preview") == [0, 1]
    with pytest.raises(DreamboothError, match="already holds a run"):
        train(settings, display)


def test_a_folder_of_a_run_that_also_holds_other_files_is_not_cleared(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings()
    run = settings.output.output
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("a: person's own\n")
    with pytest.raises(DreamboothError, match="already holds a run"):
        train(settings, display)
    (run / "status.json").write_text("{}")
    (run / "letter.txt").write_text("keep me")
    with pytest.raises(DreamboothError, match="already holds a run"):
        train(settings, display)


def test_what_was_edited_in_the_config_of_a_run_is_refused_as_the_flag_is(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(loop={"steps": 1})
    run = train(settings, display).run
    config = run / "config.yaml"
    before = config.read_text()
    config.write_text(before.replace("learning_rate: 0.0001", "learning_rate: 0.01").replace("seed: 23", "seed: 24"))
    with pytest.raises(SettingsError) as caught:
        resume(run, {"loop.steps": 2}, display)
    assert caught.value.problems == (
        f"{config}: optimizer.learning_rate was 0.0001 when the run started and is now 0.01",
        f"{config}: loop.seed was 23 when the run started and is now 24",
    )
    assert "Put the earlier values back into config.yaml" in str(caught.value)
    config.write_text(before.replace("steps: 1\n", "steps: 2\n", 1))
    assert resume(run, {}, display).step == 2


@pytest.mark.slow
def test_resuming_names_only_the_photos_that_differ(
    run_settings: MakeSettings, display: Display, tmp_path: Path, photos: Path
) -> None:
    own = tmp_path / "photos"
    shutil.copytree(photos, own)
    run = train(run_settings(subject={"photos": str(own)}, loop={"steps": 1}), display).run
    (own / "00.jpg").rename(tmp_path / "kept.jpg")
    with pytest.raises(RunError) as refused:
        resume(run, {"loop.steps": 2}, display)
    assert refused.value.problems[1:] == ("photo 00.jpg is missing",)
    shutil.copy(tmp_path / "kept.jpg", own / "zz.jpg")
    with pytest.raises(RunError) as renamed:
        resume(run, {"loop.steps": 2}, display)
    assert renamed.value.problems[1:] == ("photo zz.jpg was called 00.jpg",)


def test_everything_wrong_is_said_at_once_and_before_any_model_is_built(
    run_settings: MakeSettings, display: Display, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    full = tmp_path / "photos" / "full"
    full.mkdir()
    (full / "letter.txt").write_text("keep me")
    settings = run_settings(
        base={"model": str(tmp_path / "no.ckpt")},
        subject={"photos": str(tmp_path / "photos")},
        prior={"also_prior": [str(tmp_path / "nowhere")], "prior_folder": str(tmp_path / "photos" / "made")},
        loop={"device": "cuda:77"},
        output={"output": str(full)},
    )
    with pytest.raises(DreamboothError) as caught:
        train(settings, display)
    text = str(caught.value)
    for part in ("device is 'cuda:77'", "full: already holds other files", "no.ckpt: no such file", "a.jpg: ", "nowhere: "):
        assert part in text, text
    assert f"output is {full}: it is inside the photo folder" in text
    assert f"prior_folder is {tmp_path / 'photos' / 'made'}: it is inside the photo folder" in text
    assert [path.name for path in full.iterdir()] == ["letter.txt"]


@pytest.mark.slow
def test_a_token_that_no_caption_says_is_refused_or_told(
    run_settings: MakeSettings, display: Display, said: Callable[[], str]
) -> None:
    subject = {"instance_prompt": "photo of a zwx backpack"}
    with pytest.raises(DreamboothError, match="none of the 3 captions says the token 'sks'") as caught:
        train(run_settings(subject=subject), display)
    assert "--token zwx" in str(caught.value) and "--allow-silent-token" in str(caught.value)
    long = "a backpack, " * 30
    output = {"preview_steps": 1, "preview_prompts": [f"{long}at night"]}
    settings = run_settings(subject={**subject, "allow_silent_token": True}, loop={"steps": 1}, output=output)
    done = train(settings, display)
    assert "warning: 3 of 3 captions do not say the token 'sks'" in said()
    assert 'is longer than the 75 tokens the model reads; this part is ignored: "' in said()
    assert f"dreambooth generate --model {done.run} --prompt 'photo of a zwx backpack'" in said()
    with safe_open(done.run / "model.safetensors", "pt") as file:
        assert "modelspec.trigger_phrase" not in file.metadata()


def test_a_full_disk_is_seen_before_the_run(
    run_settings: MakeSettings, display: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    expected = r"the run needs up to 0\.\d GB on this disk, but only 0\.0 GB are free\nUse --keep-checkpoints 1"
    with pytest.raises(DreamboothError, match=expected):
        train(run_settings(), display)


def test_what_resuming_refuses(run_settings: MakeSettings, display: Display, tmp_path: Path, photos: Path) -> None:
    own_photos = tmp_path / "photos"
    shutil.copytree(photos, own_photos)
    settings = run_settings(subject={"photos": str(own_photos)}, loop={"steps": 2})
    with pytest.raises(RunError, match=r"not a run, config.yaml is missing\nGive the --output folder of an earlier"):
        resume(tmp_path, {}, display)
    train(settings, display)
    run = settings.output.output
    with pytest.raises(DreamboothError, match=rf"already holds a run\nContinue it with: dreambooth train --resume {run}"):
        train(settings, display)
    with pytest.raises(SettingsError) as caught:
        resume(run, {"optimizer.learning_rate": 0.5, "loop.seed": 1, "loop.steps": 1}, display)
    assert caught.value.problems == (
        "optimizer.learning_rate was 0.0001 when the run started and is now 0.5",
        "loop.seed was 23 when the run started and is now 1",
        "loop.steps was 2 and is now 1; it can only increase",
    )
    shutil.copy(own_photos / "00.jpg", own_photos / "01.jpg")
    (own_photos / "02.jpg").unlink()
    with pytest.raises(RunError) as refused:
        resume(run, {"loop.steps": 3}, display)
    assert refused.value.problems[1:] == ("photo 01.jpg is changed", "photo 02.jpg is missing")


def test_a_photo_that_changes_after_the_check_is_not_trained_on(
    run_settings: MakeSettings, display: Display, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generating class images takes hours, and an app may rewrite the photos meanwhile; the cache must not keep the new one."""
    own_photos = tmp_path / "photos"
    shutil.copytree(photos, own_photos)
    settings = run_settings(subject={"photos": str(own_photos)}, loop={"steps": 3})
    monkeypatch.setattr(display, "say", lambda text: shutil.copy(own_photos / "00.jpg", own_photos / "01.jpg"))
    with pytest.raises(PhotoError, match=r"01\.jpg: the file was changed after it was checked"):
        train(settings, display)


def test_steps_cannot_grow_where_the_learning_rate_depends_on_them(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(optimizer={"learning_rate_schedule": "cosine"}, loop={"steps": 2})
    train(settings, display)
    with pytest.raises(SettingsError, match=r"loop\.steps cannot increase: the cosine learning rate reaches zero at step 2"):
        resume(settings.output.output, {"loop.steps": 3}, display)


def test_a_finished_run_resumed_does_nothing(run_settings: MakeSettings, display: Display, said: Callable[[], str]) -> None:
    settings = run_settings(loop={"steps": 1})
    train(settings, display)
    before = (settings.output.output / "model.safetensors").stat().st_mtime_ns
    result = resume(settings.output.output, {}, display)
    assert result.step == 1
    assert "The run is already at its last step, 1. To train longer: dreambooth train --resume" in said()
    assert (settings.output.output / "model.safetensors").stat().st_mtime_ns == before


def test_a_finished_model_without_checkpoints_is_not_overwritten(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(loop={"steps": 1})
    run = train(settings, display).run
    shutil.rmtree(run / "checkpoints")
    expected = r"holds a finished model and no checkpoint to resume from; .*\nTo train it further: dreambooth train --model"
    with pytest.raises(RunError, match=expected):
        resume(run, {"loop.steps": 2}, display)


def test_two_processes_do_not_share_a_run_folder(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(loop={"steps": 1})
    folder = settings.output.output
    with exclusive(folder), pytest.raises(RunError, match=r"another process is training here\nWait until it ends"):
        train(settings, display)
    assert [path.name for path in folder.iterdir()] == [".lock"]
    assert train(settings, display).step == 1


def test_a_resumed_run_stays_in_its_folder(run_settings: MakeSettings, display: Display, tmp_path: Path) -> None:
    run = train(run_settings(loop={"steps": 1}), display).run
    with pytest.raises(SettingsError, match=r"output is .*elsewhere, but a resumed run stays in"):
        resume(run, {"output.output": str(tmp_path / "elsewhere")}, display)


def test_commands_to_type_next_are_quoted(run_settings: MakeSettings, display: Display, said: Callable[[], str]) -> None:
    settings = run_settings(loop={"steps": 1})
    folder = settings.output.output.with_name("my run")
    train(settings.model_copy(update={"output": settings.output.model_copy(update={"output": folder})}), display)
    assert f"dreambooth generate --model '{folder}' --prompt 'photo of a sks backpack'" in said()
    assert "warning" not in said(), "a run with the defaults warns of nothing"
