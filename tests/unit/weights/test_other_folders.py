"""Folders that people give as a model: read where a model is in them, otherwise called what they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dreambooth.errors import ModelFileError
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.read import read_model
from dreambooth.weights.write import write_diffusers_folder, write_single_file

COMMIT, OTHER = "0123456789abcdef0123456789abcdef01234567", "fedcba9876543210fedcba9876543210fedcba98"


@pytest.fixture
def folder(tiny: ModelWeights, tmp_path: Path) -> Path:
    path = tmp_path / "whole"
    write_diffusers_folder(path, tiny, dtype=None, metadata={})
    return path


@pytest.fixture
def cached(folder: Path, tmp_path: Path) -> Path:
    """A model in a cache of the hub, with an older snapshot."""
    path = tmp_path / "hub" / "models--someone--sd15"
    shutil.copytree(folder, path / "snapshots" / COMMIT)
    (path / "snapshots" / OTHER).mkdir()
    (path / "refs").mkdir()
    (path / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    return path


def refused(path: Path) -> tuple[str, str]:
    with pytest.raises(ModelFileError) as caught:
        read_model(str(path))
    (problem,) = caught.value.problems
    assert caught.value.hint is not None
    return problem, caught.value.hint


def test_a_model_in_the_hubs_cache_is_read(tiny: ModelWeights, cached: Path) -> None:
    for path in (cached, cached / "snapshots", cached / "snapshots" / COMMIT):
        read = read_model(str(path))
        assert read.digest() == tiny.digest()
        assert read.report.source == cached / "snapshots" / COMMIT


def test_the_only_snapshot_is_read_without_a_reference(tiny: ModelWeights, cached: Path) -> None:
    shutil.rmtree(cached / "refs")
    problem, hint = refused(cached)
    assert f"a model in the hub's cache with 2 snapshots and no current one: {COMMIT}, {OTHER}" in problem
    assert str(cached / "snapshots") in hint
    (cached / "snapshots" / OTHER).rmdir()
    assert read_model(str(cached)).digest() == tiny.digest()


def test_the_hubs_cache_itself_is_named(cached: Path) -> None:
    problem, hint = refused(cached.parent)
    assert "the hub's cache with 1 downloaded model: models--someone--sd15" in problem
    assert hint == f"Give the folder of one, for example {cached}"


def checkpoint_500(folder: Path) -> Path:
    inner = folder.parent / "output" / "checkpoint-500"
    for part in ("unet", "text_encoder"):
        shutil.copytree(folder / part, inner / part)
    for name in ("optimizer.bin", "scheduler.bin", "random_states_0.pkl"):
        (inner / name).write_bytes(b"x")
    return inner


def test_a_training_checkpoint_is_named_with_what_it_lacks(folder: Path) -> None:
    inner = checkpoint_500(folder)
    problem, _ = refused(inner)
    assert problem == (
        f"{inner}: a training checkpoint of diffusers, for resuming only (optimizer.bin, scheduler.bin): "
        "it has unet and text_encoder, but no vae"
    )
    for part in ("unet", "text_encoder"):
        shutil.rmtree(inner / part)
    assert refused(inner)[0].endswith("it has no unet and no vae and no text_encoder")


def test_an_output_folder_without_a_model_is_named(folder: Path) -> None:
    outer = checkpoint_500(folder).parent
    problem, hint = refused(outer)
    assert "the output of a training program with checkpoints (checkpoint-500), but without a finished model" in problem
    assert "Let the program finish" in hint


def test_a_whole_model_beside_training_files_is_read(tiny: ModelWeights, folder: Path) -> None:
    for name in ("optimizer.bin", "random_states_0.pkl"):
        (folder / name).write_bytes(b"x")
    assert read_model(str(folder)).digest() == tiny.digest()


def test_an_unpacked_checkpoint_is_named(tmp_path: Path) -> None:
    inner = tmp_path / "unpacked" / "archive"
    (inner / "data").mkdir(parents=True)
    for name in ("data.pkl", "version", "data/0"):
        (inner / name).write_bytes(b"x")
    for path, where in ((inner.parent, " in its folder archive"), (inner, "")):
        problem, hint = refused(path)
        assert problem == f"{path}: an unpacked .ckpt or .pt file: data.pkl and version{where}; expected the file itself"
        assert f"cd {inner.parent} && zip -0 -r model.ckpt archive" in hint


def test_a_folder_with_a_model_file_in_it_names_the_file(tiny: ModelWeights, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    write_single_file(folder / "sd.safetensors", tiny, dtype=None, metadata={})
    problem, hint = refused(folder)
    assert "not a model folder" in problem and "but it contains sd.safetensors" in problem
    assert hint == f"Give the file itself, for example {folder / 'sd.safetensors'}"


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda folder: folder / "unet", "one part of a diffusers folder (UNet2DConditionModel), not a model"),
        (lambda folder: folder / "text_encoder", "one part of a diffusers folder (text_encoder), not a model"),
    ],
)
def test_a_part_of_a_folder_is_named(folder: Path, choose: Callable[[Path], Path], message: str) -> None:
    problem, hint = refused(choose(folder))
    assert message in problem
    assert hint == f"Give the folder above it: {folder}"


@pytest.mark.parametrize("name", ["pytorch_lora_weights.safetensors", "adapter_config.json"])
def test_a_lora_folder_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}", encoding="utf-8")
    assert f"this is a LoRA: small changes to a model, not a model (it has {name})" in refused(tmp_path)[0]


def test_a_checkpoint_of_a_run_leads_to_the_run(tmp_path: Path) -> None:
    run = tmp_path / "my runs" / "rex"
    checkpoint = run / "checkpoints" / "step-000004"
    checkpoint.mkdir(parents=True)
    for file in (run / "config.yaml", checkpoint / "state.json", checkpoint / "weights.safetensors"):
        file.touch()
    for folder in (checkpoint, checkpoint.parent):
        problem, hint = refused(folder)
        assert problem == f"{folder}: for resuming the run {run} only, not a whole model"
        assert f"Give the run folder {run}" in hint
        assert f"dreambooth train --resume '{run}'" in hint


def test_a_folder_of_runs_names_them(tmp_path: Path) -> None:
    for name in ("rex", "vase"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
        (tmp_path / name / "status.json").touch()
    hint = f"Give one run folder, for example {tmp_path / 'rex'}"
    assert refused(tmp_path) == (f"{tmp_path}: a folder with 2 runs: rex, vase", hint)
