"""Names of models: our own, and those of the two original programs."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from dreambooth.data.drawing import PerRole, num_entries
from dreambooth.runs.folder import RunFolder
from dreambooth.runs.model_names import FINAL_MODELS, FileLayout, ModelNames, epoch_of, model_names
from dreambooth.weights import read


def names(layout: FileLayout, *, photos: int = 4, priors: int = 200, examples: int = 1, model_steps: int = 500) -> ModelNames:
    entries = num_entries(PerRole(photos, priors), PerRole(100, 10))
    return model_names(layout, num_entries=entries, examples_per_step=examples, model_steps=model_steps)


def test_our_own() -> None:
    run = RunFolder(Path("run"), names("own"))
    assert run == RunFolder(Path("run"), names("own"))
    assert (run.final_model, run.newest_model) == (Path("run/model.safetensors"), None)
    assert run.model_at(500) == Path("run/models/step-000500.safetensors")


@pytest.mark.parametrize(
    ("photos", "priors", "examples", "step", "epoch"),
    [
        (4, 200, 1, 500, 1),  # an epoch has 400 steps, and step 500 is in the second
        (4, 200, 1, 400, 0),  # its last step belongs to it
        (4, 200, 1, 401, 1),
        (5, 8, 1, 500, 6),  # class images end it after 80
        (4, 0, 1, 500, 1),  # without class images photos alone count
        (4, 200, 2, 500, 2),
        (3, 200, 7, 43, 0),  # the last batch is short: 300 pairs make 43 steps
        (3, 200, 7, 44, 1),
    ],
)
def test_epochs_are_counted_as_the_originals_did(photos: int, priors: int, examples: int, step: int, epoch: int) -> None:
    counted = names("xavierxiao", photos=photos, priors=priors, examples=examples)
    assert epoch_of(step, counted.steps_per_epoch)[0] == epoch
    assert counted.at(step) == f"checkpoints/epoch={epoch:06d}.ckpt" or step % 500


def test_models_of_one_epoch_have_versions() -> None:
    counted = names("xavierxiao", photos=20, priors=1000)  # 2000 steps
    found = [counted.at(step) for step in range(500, 4001, 500)]
    first = ["epoch=000000.ckpt", "epoch=000000-v1.ckpt", "epoch=000000-v2.ckpt", "epoch=000000-v3.ckpt"]
    second = [name.replace("=000000", "=000001") for name in first]
    assert found == [f"checkpoints/{name}" for name in (*first, *second)]


@pytest.mark.parametrize(("photos", "every"), [(1, 30), (3, 70), (7, 500), (2, 200), (11, 999)])
def test_no_two_models_of_a_run_have_one_name(photos: int, every: int) -> None:
    counted = names("xavierxiao", photos=photos, model_steps=every)
    found = [counted.at(step) for step in range(every, 100 * every, every)]
    assert len(set(found)) == len(found)
    versions = [name.partition("-v")[2].removesuffix(".ckpt") or "0" for name in found]
    assert all(b == "0" or int(b) == int(a) + 1 for a, b in itertools.pairwise(versions))


def test_the_second_generation() -> None:
    run = RunFolder(Path("run"), names("joepenna"))
    assert run.final_model == run.newest_model == Path("run/ckpts/last.ckpt")
    assert run.model_at(500) == Path("run/ckpts/trainstep_ckpts/epoch=1-step=500.ckpt")


def test_the_image_log_counts_the_batch_of_the_epoch() -> None:
    run = RunFolder(Path("run"), names("xavierxiao"))
    assert run.image_log("samples", 500) == Path("run/images/train/samples_gs-000500_e-000001_b-000099.png")


def test_models_are_looked_for_where_they_are_written() -> None:
    layouts: tuple[FileLayout, ...] = ("own", "xavierxiao", "joepenna")
    assert tuple(names(layout).final for layout in layouts) == FINAL_MODELS == read._RUN_MODELS
