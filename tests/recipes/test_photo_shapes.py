"""Photos of several shapes, with masks and several captions, from files to a model: buckets, resume, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dreambooth.config import read_yaml
from dreambooth.data.size import Size
from dreambooth.display import Display
from dreambooth.errors import RunError, SettingsError
from dreambooth.estimate.workload import Workload
from dreambooth.recipes.train import resume, train
from dreambooth.schema.verbs import TrainSettings

MakeSettings = Callable[..., TrainSettings]

_SHAPES = {"square": (96, 96), "wide": (120, 80), "wider": (126, 84), "tall": (80, 120)}


def write_photos(folder: Path, shapes: dict[str, tuple[int, int]]) -> Path:
    """Photos of noise, each with a mask and two captions."""
    folder.mkdir()
    for seed, (name, (width, height)) in enumerate(shapes.items()):
        noise = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
        mask = Image.new("L", (width, height))
        mask.paste(255, (20, 20, 60, 60))
        mask.save(folder / f"{name}-mask.png")
        (folder / f"{name}.txt").write_text("photo of a {token} {class_word}\n{token} on a {red|blue} table", encoding="utf-8")
    return folder


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def trained(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


@pytest.mark.slow
def test_a_run_in_buckets_goes_on_exactly(run_settings: MakeSettings, display: Display, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", _SHAPES)
    same = {
        "subject": {"photos": str(photos)},
        "views": {"crop": "bucket"},
        "prior": {"num_prior_images": 4, "prior_target": "prediction"},
    }
    long = train(run_settings(loop={"steps": 2, "batch_size": 2}, output={"output": str(tmp_path / "long")}, **same), display)
    short = train(run_settings(loop={"steps": 1, "batch_size": 2}, output={"output": str(tmp_path / "short")}, **same), display)
    resume(short.run, {"loop.steps": 2}, display)
    one, other = trained(long.run), trained(short.run)
    assert all(torch.equal(one[name], other[name]) for name in one)
    folder = Path(read_yaml(long.run / "config.yaml")["prior"]["prior_folder"])
    made = [size_of(path) for path in folder.rglob("*.png")]
    assert len(made) == 4 and made.count((80, 48)) == 2 and {(64, 64), (48, 80)} <= set(made)


@pytest.mark.slow
def test_a_run_around_what_stands_out_goes_on_exactly_and_not_around_something_else(
    run_settings: MakeSettings, display: Display, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_photos(tmp_path / "photos", dict.fromkeys("abc", _SHAPES["wide"]))
    same = {"subject": {"photos": str(photos), "masks": False}, "views": {"crop": "subject"}}
    middle = train(
        run_settings(loop={"steps": 1}, output={"output": str(tmp_path / "middle")}, subject=same["subject"]), display
    )
    long = train(run_settings(loop={"steps": 2}, output={"output": str(tmp_path / "long")}, **same), display)
    short = train(run_settings(loop={"steps": 1}, output={"output": str(tmp_path / "short")}, **same), display)
    assert any(not torch.equal(tensor, trained(middle.run)[name]) for name, tensor in trained(short.run).items())
    resume(short.run, {"loop.steps": 2}, display)
    one, other = trained(long.run), trained(short.run)
    assert all(torch.equal(one[name], other[name]) for name in one)
    monkeypatch.setattr("dreambooth.data.focus.salient_boxes", lambda copies, sizes: [None for _ in copies])
    with pytest.raises(RunError, match=r"photo a\.png is changed"):
        resume(short.run, {"loop.steps": 3}, display)


def test_the_memory_plan_is_made_for_the_largest_bucket_that_occurs(
    run_settings: MakeSettings, display: Display, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[Workload] = []

    def refuse(memory: object, device: object, family: object, workload: Workload, **_: object) -> None:
        planned.append(workload)
        raise SettingsError("enough was seen")

    monkeypatch.setattr("dreambooth.trainer.preflight.choose_plan", refuse)
    wide = write_photos(tmp_path / "photos", dict.fromkeys(("a", "b", "c"), _SHAPES["wide"]))
    class_images = write_photos(tmp_path / "tall", dict.fromkeys(("a", "b", "c"), _SHAPES["tall"]))
    for text in class_images.glob("*.txt"):
        text.write_text("a dog", encoding="utf-8")
    for prior in ({}, {"also_prior": [str(class_images)]}):
        settings = run_settings(subject={"photos": str(wide)}, views={"crop": "bucket"}, prior=prior)
        with pytest.raises(SettingsError, match="enough was seen"):
            train(settings, display)
    assert [work.size for work in planned] == 2 * [Size(48, 80)]
    assert [work.has_buckets for work in planned] == [False, True]


@pytest.mark.slow
def test_square_photos_in_buckets_give_the_same_bits(run_settings: MakeSettings, display: Display, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", {"a": (96, 96), "b": (80, 80), "c": (128, 128)})
    models = []
    for crop in ("bucket", "center"):
        settings = run_settings(
            loop={"steps": 2, "batch_size": 2},
            output={"output": str(tmp_path / crop)},
            subject={"photos": str(photos)},
            views={"crop": crop},
        )
        models.append(trained(train(settings, display).run))
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
