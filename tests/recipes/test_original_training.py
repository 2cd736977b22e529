"""`main.py`: whole runs in the manner of the two original programs, on the miniature checkpoint."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from dreambooth.compat import main as compat
from dreambooth.config import parse_settings
from dreambooth.display import Display
from dreambooth.recipes.train import train
from dreambooth.sampling.records import SamplingOptions
from dreambooth.schema.presets import read_preset
from dreambooth.schema.verbs import TrainSettings
from dreambooth.trainer import image_log
from dreambooth.trainer.journal import Journal
from dreambooth.training.loop import StepResult
from dreambooth.weights.read import read_model
from dreambooth.weights.write import write_single_file

Said = Callable[[], str]

ROOT = Path(__file__).parents[2]
KEYS = ("size=64", "flip_p=0.5")
SMALL = [f"data.params.{part}.params.{key}" for part in ("train", "reg") for key in KEYS]
LIGHTNING_KEYS = {"epoch", "global_step", "pytorch-lightning_version", "state_dict", "callbacks", "lr_schedulers"}


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[SamplingOptions]:
    """What the image log asks of the sampler, which then takes two steps to save time."""
    asked: list[SamplingOptions] = []
    final_latents = image_log.final_latents

    def quick(components: Any, pictures: Any, options: SamplingOptions, **place: Any) -> torch.Tensor:
        asked.append(options)
        return final_latents(components, pictures, replace(options, steps=2), **place)

    monkeypatch.setattr(image_log, "final_latents", quick)
    return asked


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DREAMBOOTH_DEBUG", raising=False)


@pytest.fixture(scope="module")
def priors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two class images, as somebody has them."""
    folder = tmp_path_factory.mktemp("regs")
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def earlier(golden_checkpoint: Path, photos: Path, priors: Path) -> Callable[..., int]:
    """The first generation's command."""

    def run(*arguments: str, steps: int = 4) -> int:
        given = ["-t", "--actual_resume", str(golden_checkpoint), "--data_root", str(photos), "--class_word", "backpack"]
        given += ["--reg_data_root", str(priors), "--max_steps", str(steps), *SMALL]
        return compat.main([*given, "lightning.modelcheckpoint.params.every_n_train_steps=2", *arguments])

    return run


@pytest.fixture(scope="module")
def small_model(golden_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature as a file that says that its pictures are small."""
    path = tmp_path_factory.mktemp("small") / "mini.safetensors"
    read = read_model(str(golden_checkpoint), weights="raw").made_for(64)
    write_single_file(path, read, dtype=None, metadata={})
    return path


def the_run(logs: str = "logs") -> Path:
    (run,) = (path for path in Path(logs).iterdir() if (path / "config.yaml").is_file())
    return run


def weights(path: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return loaded


@pytest.mark.slow
def test_files_are_where_guides_look_and_load_in_the_original(
    earlier: Callable[..., int],
    golden_state_dict: dict[str, torch.Tensor],
    sampled: list[SamplingOptions],
    capsys: pytest.CaptureFixture[str],
) -> None:
    log_images = "lightning.callbacks.image_logger.params.batch_frequency=4"
    assert earlier("-n", "job", log_images) == 0
    run = the_run()
    assert run.name.startswith("backpack_dog20") and run.name.endswith("_job")
    now = run.name.removesuffix("_job")
    assert sorted(path.name for path in (run / "configs").iterdir()) == [f"{now}-lightning.yaml", f"{now}-project.yaml"]
    project = yaml.safe_load((run / "configs" / f"{now}-project.yaml").read_text())
    assert project["data"]["params"]["train"]["params"]["placeholder_token"] == "backpack"
    images = sorted(path.name for path in (run / "images" / "train").iterdir())
    kinds = ("conditioning", "inputs", "reconstruction", "samples", "samples_scaled")
    assert images == [f"{kind}_gs-000004_e-000000_b-000003.png" for kind in kinds]
    assert sorted(path.name for path in (run / "checkpoints").glob("*.ckpt")) == ["epoch=000000.ckpt", "last.ckpt"]
    for name, step in (("epoch=000000.ckpt", 2), ("last.ckpt", 4)):
        with zipfile.ZipFile(run / "checkpoints" / name) as archive:  # what stable-diffusion-webui accepts
            assert all(re.fullmatch(r"[^/]+/(data/\d+|version|data\.pkl)", entry) for entry in archive.namelist())
        stored = torch.load(run / "checkpoints" / name, weights_only=True)
        assert stored.keys() == LIGHTNING_KEYS
        assert (stored["global_step"], stored["epoch"]) == (step, 0)
        state_dict = stored["state_dict"]
        expected = {key: value for key, value in golden_state_dict.items() if not key.startswith("model_ema.")}
        assert state_dict.keys() == expected.keys()
        assert {key: value.shape for key, value in state_dict.items()} == {key: value.shape for key, value in expected.items()}
        kinds_of = {value.dtype for key, value in state_dict.items() if not key.endswith("position_ids")}
        assert kinds_of == {torch.float32}
        ids = state_dict["cond_stage_model.transformer.text_model.embeddings.position_ids"]
        assert (ids.dtype, ids.flatten().tolist()) == (torch.int64, list(range(77)))
    assert len(list((run / "checkpoints").glob("step-*"))) == 1
    assert read_model(str(run)).family.resolution == 64
    assert f"The model is {run / 'checkpoints' / 'last.ckpt'}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_the_image_log_shows_the_photos_of_the_step(earlier: Callable[..., int], sampled: list[SamplingOptions]) -> None:
    keys = [f"lightning.callbacks.image_logger.params.{key}" for key in ("batch_frequency=2", "max_images=2")]
    assert earlier("data.params.batch_size=3", *keys, steps=2) == 0
    folder = the_run() / "images" / "train"
    with Image.open(next(folder.glob("inputs_*"))) as image:
        assert image.size == (2 * 68, 68)
        inputs = np.asarray(image.convert("RGB"))[:64, :64].astype(float)
    with Image.open(next(folder.glob("conditioning_*"))) as image:
        assert np.asarray(image.convert("L")).min() < 50  # the caption's letters
    with Image.open(next(folder.glob("samples_scaled_*"))) as scaled, Image.open(next(folder.glob("samples_gs*"))) as plain:
        assert np.asarray(scaled).tobytes() != np.asarray(plain).tobytes()
    assert inputs.std() > 20
    events = [json.loads(line) for line in (the_run() / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "image_log"] == [2]
    assert [(one.sampler, one.steps, one.eta, one.guidance_scale) for one in sampled] == [
        *[("ddim", 200, 1.0, 1.0)] * 2,
        *[("ddim", 200, 1.0, 5.0)] * 2,
    ]


@pytest.mark.slow
def test_it_is_the_run_that_the_preset_original_makes(
    earlier: Callable[..., int], golden_checkpoint: Path, photos: Path, priors: Path, display: Display
) -> None:
    assert earlier(steps=2) == 0
    _, values = read_preset("original")
    values["base"] = {"model": str(golden_checkpoint), "weights": "raw"}
    values["subject"] = {"photos": str(photos), "class_word": "backpack"}
    values["views"] |= {"resolution": 64}
    values["prior"] = {"prior_images": str(priors)}
    values["loop"] = {"steps": 2}
    values["output"] |= {"output": "own"}
    train(parse_settings(TrainSettings, values, where="test"), display)
    ours, theirs = read_model("own"), read_model(str(the_run()))
    assert ours.parts.keys() == theirs.parts.keys() == {"unet", "vae", "text_encoder"}
    for part in ours.parts:
        for name, tensor in ours.parts[part].items():
            assert torch.equal(tensor, theirs.parts[part][name]), name


@pytest.mark.slow
def test_a_run_that_goes_on_is_the_longer_run(earlier: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert earlier("-l", "long", steps=6) == 0
    assert earlier("-l", "short", steps=4) == 0
    run = the_run("short")
    capsys.readouterr()
    assert compat.main(["-r", str(run)]) == 0
    assert "The run is already at its last step, 4" in capsys.readouterr().out
    assert compat.main(["-r", str(run / "checkpoints" / "last.ckpt"), "--max_steps", "6"]) == 0
    said = capsys.readouterr().out
    assert "Resuming from step 4" in said
    assert "class word is dog" not in said and "shuffled separately" not in said
    assert not (run / "model.safetensors").exists()
    longer, gone_on = (weights(the_run(logs) / "checkpoints" / "last.ckpt") for logs in ("long", "short"))
    assert all(torch.equal(longer[name], gone_on[name]) for name in longer)
    assert compat.main(["-r", str(run / "checkpoints" / "epoch=000000.ckpt"), "--max_steps", "7"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "epoch=000000.ckpt: is the model of step 2, but the run can only resume from its checkpoint at step 6" in said
    assert "Or start a new run from this model: --actual_resume" in said
    names = [sorted(path.name for path in (the_run(logs) / "checkpoints").glob("*.ckpt")) for logs in ("long", "short")]
    assert names == [["epoch=000000-v1.ckpt", "epoch=000000.ckpt", "last.ckpt"], ["epoch=000000.ckpt", "last.ckpt"]]


def test_what_must_not_change_when_a_run_goes_on_is_refused(
    earlier: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert earlier(steps=2) == 0
    assert compat.main(["-t", "-r", str(the_run()), "-s", "5", "--max_steps", "4"]) == 2
    assert "loop.seed was 23 when the run started and is now 5" in capsys.readouterr().err
    assert compat.main(["-t", "-n", "new", "-r", str(the_run()), "--max_steps", "4"]) == 2
    assert "--name names a new log folder and --resume continues in an existing one" in capsys.readouterr().err


@pytest.mark.slow
def test_stopped_it_leaves_the_newest_model_under_the_name_that_guides_copy(
    earlier: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    take_down = Journal.step

    def and_stop(journal: Journal, result: StepResult) -> None:
        take_down(journal, result)
        if result.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Journal, "step", and_stop)
    assert earlier(steps=20) == 143
    run = the_run()
    stored = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert stored["global_step"] == 3
    assert f"The run is saved at step 3. To resume:\n  dreambooth train --resume {run}" in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_on_the_way_is_also_the_newest(earlier: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def look(journal: Journal, checkpoint: Path) -> None:
        files = the_run() / "checkpoints"
        seen.append((files / "last.ckpt").samefile(files / "epoch=000000.ckpt"))

    monkeypatch.setattr(Journal, "saved", look)
    assert earlier(steps=3) == 0
    assert seen == [True, False]


@pytest.mark.slow
def test_killed_before_its_first_checkpoint_it_begins_again(
    earlier: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert earlier("lightning.callbacks.metrics_over_trainsteps_checkpoint.params.every_n_train_steps=1", steps=3) == 0
    run = the_run()
    expected = weights(run / "checkpoints" / "last.ckpt")
    shutil.rmtree(next((run / "checkpoints").glob("step-*")))
    for more in ([], ["--max_steps", "9"]):
        assert compat.main(["-r", str(run), *more]) == 1
        assert "holds a finished model and no checkpoint to resume from" in " ".join(capsys.readouterr().err.split())
    (run / "checkpoints" / "last.ckpt").unlink()
    (run / "checkpoints" / "epoch=000000-v1.ckpt").rename(run / "checkpoints" / "last.ckpt")  # as it was after step 2
    assert compat.main(["-r", str(run)]) == 0
    again = weights(run / "checkpoints" / "last.ckpt")
    assert all(torch.equal(again[name], expected[name]) for name in expected)


@pytest.mark.slow
def test_the_second_generation_leaves_named_models_beside_its_run(
    small_model: Path, photos: Path, priors: Path, sampled: list[SamplingOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    named = Path("photos") / "effy" / "bag"
    named.mkdir(parents=True)
    for index, photo in enumerate(sorted(photos.glob("*.jpg"))[:2]):
        with Image.open(photo) as image:
            image.resize((64, 64)).save(named / f"{index}@S on a C.png")
    command = ["--project_name", "my job", "--training_model", str(small_model), "--training_images", "photos"]
    command += ["--regularization_images", str(priors), "--token", "sks", "--class_word", "backpack"]
    assert compat.main([*command, "--max_training_steps", "3", "--save_every_x_steps", "2"]) == 0
    run = the_run()
    assert run.name.endswith("_my_job")
    assert sorted(str(path.relative_to(run)) for path in run.glob("ckpts/**/*.ckpt")) == [
        "ckpts/last.ckpt",
        "ckpts/trainstep_ckpts/epoch=0-step=2.ckpt",
    ]
    started = run.name.removesuffix("_my_job")
    rest = "training_images_sks_token_backpack_class_word.ckpt"
    published = sorted(path.name for path in Path("trained_models").iterdir())
    assert published == [f"{started}_my_job_{steps:05d}_steps_2_{rest}" for steps in (2, 3)]
    assert torch.load(Path("trained_models") / published[1], weights_only=True)["global_step"] == 3
    assert weights(run / "ckpts" / "last.ckpt")["model.diffusion_model.out.2.weight"].dtype == torch.float16
    (config,) = (run / "configs").glob("*.json")
    assert json.loads(config.read_text())["max_training_steps"] == 3
    said = capsys.readouterr().out
    assert "effy on a bag" in said
    assert f"Also saved as trained_models/{published[1]}" in said
    assert compat.main(["-r", str(run), "--max_training_steps", "5"]) == 0
    later = sorted(path.name for path in Path("trained_models").iterdir())
    assert later == [f"{started}_my_job_{steps:05d}_steps_2_{rest}" for steps in (2, 3, 4, 5)]
    steps = [torch.load(Path("trained_models") / name, weights_only=True)["global_step"] for name in later]
    assert steps == [2, 3, 4, 5]
    assert (run / "config.yaml").read_text().startswith("# All settings of this run. To resume it:  python main.py -r ")


def test_a_yaml_of_another_model_is_refused_before_training(
    earlier: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert earlier("model.params.unet_config.params.model_channels=320") == 1
    assert "model.params.unet_config.params.model_channels is 320; this model needs 32" in capsys.readouterr().err
    assert not Path("logs").exists()
    keys = ["model.params.unet_config.params.model_channels=320", "-t", "--class_word", "dog"]
    assert compat.main([*keys, "--actual_resume", "no.ckpt", "--data_root", "nowhere"]) == 1
    said = capsys.readouterr().err
    assert "no.ckpt: no such file or folder" in said and "nowhere: does not exist" in said


def test_going_on_with_something_else_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert compat.main(["-t", "-r", "nothing"]) == 1
    assert "nothing: no such folder or file" in capsys.readouterr().err
    (tmp_path / "theirs.ckpt").touch()
    (tmp_path / "config.yaml").touch()  # somebody's, far above
    theirs = tmp_path / "logs" / "theirs" / "checkpoints" / "more" / "last.ckpt"
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    assert compat.main(["-t", "-r", str(theirs)]) == 1
    assert "does not belong to a run of this program" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "config.yaml").unlink()
    assert compat.main(["-t", "-r", "theirs.ckpt"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "optimizer states written by the original program cannot be read" in said
    assert "Start a new run from its weights: --actual_resume theirs.ckpt" in said


def test_a_gpu_that_is_not_there_is_a_mistake(
    earlier: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert earlier("--gpus", "0,") == 2
    assert "cuda:0" in capsys.readouterr().err
    assert earlier("--gpus", "0,1") == 2
    assert "--gpus lists GPU 1, but no CUDA GPU was found" in capsys.readouterr().err


def test_several_gpus_start_one_process_each(earlier: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, list[str], dict[str, str]]] = []

    def execve(program: str, arguments: list[str], environment: dict[str, str]) -> None:
        started.append((program, arguments, environment))
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(os, "execve", execve)
    assert earlier("--gpus", "0,2") == 130
    ((program, arguments, environment),) = started
    assert program == sys.executable
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "dreambooth.compat.main", "-t"]
    assert arguments[1:9] == launch
    assert arguments[-2:] == ["--gpus", "0,2"]
    assert environment["CUDA_VISIBLE_DEVICES"] == "0,2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")  # the person was given these
    assert earlier("--gpus", "0,2") == 130
    assert started[-1][2]["CUDA_VISIBLE_DEVICES"] == "4,7"
    assert len(environment["DREAMBOOTH_STARTED"]) == len("2026-01-31T12-00-00")


def test_two_processes_have_one_log_folder(golden_checkpoint: Path, photos: Path, priors: Path) -> None:
    arguments = ["-t", "--actual_resume", str(golden_checkpoint), "--data_root", str(photos), "--reg_data_root", str(priors)]
    job = compat.read_job(compat.read_arguments("main.py", "", compat.FLAGS, arguments))
    os.environ["DREAMBOOTH_STARTED"] = "2026-01-31T12-00-00"
    try:
        again = compat.read_job(compat.read_arguments("main.py", "", compat.FLAGS, arguments))
    finally:
        del os.environ["DREAMBOOTH_STARTED"]
    assert job.settings is not None and again.settings is not None
    assert again.settings.output.output.name == "backpack_dog2026-01-31T12-00-00"


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception, match="--actual_resume is missing"):
        compat.main(["-t", "-d", "--data_root", "p"])
    os.environ.pop("DREAMBOOTH_DEBUG", None)
