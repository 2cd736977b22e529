"""Class images that our own sampler made are learned from as it left them, without a way through the VAE's encoder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load, load_file, save

from dreambooth.data.prior_sets import PriorSet
from dreambooth.data.settings import PriorSettings
from dreambooth.data.size import Size
from dreambooth.data.views import View
from dreambooth.display import Display
from dreambooth.errors import RunError
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.recipes.prior import prior
from dreambooth.recipes.train import resume, train
from dreambooth.runs.events import read_events
from dreambooth.runtime.processes import OneProcess
from dreambooth.schema.verbs import PriorRecipeSettings, TrainSettings
from dreambooth.seals import sealed, unsealed
from dreambooth.trainer.material import Material, gather_material
from dreambooth.trainer.preflight import check_everything
from dreambooth.weights.settings import TrainedFromSettings

MakeSettings = Callable[..., TrainSettings]

WITHOUT_FLIPS: dict[str, Any] = {"views": {"flip_probability": 0}}
WHOLE = View(Size.square(64), top=0, left=0, height=64, width=64, flip=False)
SCALE = StableDiffusion1.scaling_factor


@pytest.fixture
def num_encoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """How many pictures went through the VAE's encoder since it was asked last."""
    calls: list[None] = []
    encode_pixels = StableDiffusion1.encode_pixels

    def counted(self: StableDiffusion1, *arguments: Any) -> Any:
        calls.append(None)
        return encode_pixels(self, *arguments)

    def num() -> int:
        result = len(calls)
        calls.clear()
        return result

    monkeypatch.setattr(StableDiffusion1, "encode_pixels", counted)
    yield num


def material(settings: TrainSettings, display: Display) -> Material:
    return gather_material(check_everything(settings, display, OneProcess(), is_resume=False), display)


def class_images(settings: TrainSettings) -> Path:
    """The one set of class images that runs beside each other share."""
    [folder] = (settings.output.output.parent / "class-images").iterdir()
    return folder


def first_losses(settings: TrainSettings) -> tuple[float, float]:
    """Those of the photos and of the class images in the first step."""
    step = next(entry for entry in read_events(settings.output.output / "events.jsonl") if entry["event"] == "step")
    return step["instance_loss"], step["prior_loss"]


def test_a_made_class_image_is_not_encoded(
    run_settings: MakeSettings, display: Display, num_encoded: Callable[[], int]
) -> None:
    settings = run_settings(**WITHOUT_FLIPS)
    made = material(settings, display)
    assert num_encoded() == 3  # the photos
    for one in made.source.priors:
        moments = made.encoded.moments[one.photo.digest, WHOLE]
        x_0_CHW = load_file(one.photo.path.with_suffix(".safetensors"))["x_0"]
        torch.testing.assert_close(moments.mean * SCALE, x_0_CHW, rtol=1e-6, atol=0)
        assert not moments.deviation.any()
    assert material(settings, display).made_of == made.made_of
    assert num_encoded() == 0


def test_the_encoder_is_used_when_asked(run_settings: MakeSettings, display: Display, num_encoded: Callable[[], int]) -> None:
    settings = run_settings(**WITHOUT_FLIPS, prior={"prior_latents": "encoder"})
    made = material(settings, display)
    assert num_encoded() == 3 + len(made.source.priors)
    assert all(made.encoded.moments[one.photo.digest, WHOLE].deviation.min() > 0 for one in made.source.priors)


@pytest.mark.slow
def test_the_sampler_s_latent_is_what_the_encoder_looks_for(run_settings: MakeSettings, display: Display) -> None:
    """The encoder finds the same but for what decoding loses, 0.13 of it on toybox; a wrong scale is off by more than 0.8."""
    settings = run_settings(base={"model": "toybox"}, prior={"prior_sampling_steps": 20}, **WITHOUT_FLIPS)
    made = material(settings, display)
    for path in class_images(settings).glob("*.safetensors"):
        path.unlink()
    encoded = material(settings, display)
    for one in made.source.priors:
        mean, other = (each.encoded.moments[one.photo.digest, WHOLE].mean for each in (made, encoded))
        assert 0 < float((mean - other).norm() / other.norm()) < 0.4


def test_mirrored_and_held_out_views_are_encoded(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(views={"flip_probability": 0.5}, loop={"steps": 8}, output={"validation_steps": 4})
    made = material(settings, display)
    digests = {one.photo.digest for one in made.source.priors}
    views = {(digest, view) for digest, view in made.encoded.moments if digest in digests}
    assert {view for _, view in views if view.flip} and {view for _, view in views if view.height < 64}
    for key in views:
        assert bool(made.encoded.moments[key].deviation.any()) == (key[1] != WHOLE)


@pytest.mark.slow
def test_what_other_runs_left_behind_changes_nothing(
    run_settings: MakeSettings, display: Display, tmp_path: Path, num_encoded: Callable[[], int]
) -> None:
    """Without latents the encoder is used and its moments are cached; with the latents back, they are not asked for."""
    runs = [
        run_settings(
            prior={"prior_sampling_steps": 20},
            loop={"steps": 1},
            output={"output": str(tmp_path / "runs" / name)},
            **WITHOUT_FLIPS,
        )
        for name in "abc"
    ]
    train(runs[0], display)
    folder = class_images(runs[0])
    shutil.copytree(folder, tmp_path / "kept")
    for path in folder.glob("*.safetensors"):
        path.unlink()
    num_encoded()
    train(runs[1], display)
    assert num_encoded() == 1  # the class image of the one step; the photo is in the cache
    shutil.copytree(tmp_path / "kept", folder, dirs_exist_ok=True)
    train(runs[2], display)
    assert num_encoded() == 0
    one, other, again = map(first_losses, runs)
    assert again == one
    assert other[0] == one[0]
    assert other[1] != one[1]
    assert other[1] == pytest.approx(one[1], rel=0.3)


def test_an_exchanged_picture_is_encoded(run_settings: MakeSettings, display: Display, num_encoded: Callable[[], int]) -> None:
    settings = run_settings(**WITHOUT_FLIPS)
    before = material(settings, display)
    num_encoded()
    path = class_images(settings) / "00000.png"
    with Image.open(path) as image:
        image.transpose(Image.Transpose.ROTATE_180).save(path)
    after = material(settings, display)
    assert num_encoded() == 1
    assert after.encoded.moments[after.source.priors[0].photo.digest, WHOLE].deviation.any()
    names = [f"latent of class image {number} (0000{number}.png)" for number in (0, 1)]
    assert [name in before.made_of for name in names] == [True, True]
    assert [name in after.made_of for name in names] == [False, True]


@pytest.mark.slow
def test_a_set_made_before_gives_the_same_run(run_settings: MakeSettings, display: Display, tmp_path: Path) -> None:
    asked = {"num_prior_images": 2, "prior_sampling_steps": 2}
    before = tmp_path / "before"
    base = TrainedFromSettings(model="toybox")
    prior_settings = PriorSettings(**asked, prior_folder=before)  # type: ignore[arg-type]
    prior(PriorRecipeSettings(base=base, class_word="backpack", prior=prior_settings), display)
    [one, other] = (
        material(run_settings(prior=section, **WITHOUT_FLIPS), display) for section in ({}, {"prior_folder": str(before)})
    )
    assert one.made_of == other.made_of
    assert one.encoded.moments.keys() == other.encoded.moments.keys()
    assert all(torch.equal(one.encoded.moments[key].mean, other.encoded.moments[key].mean) for key in one.encoded.moments)


def test_a_given_set_is_encoded(run_settings: MakeSettings, display: Display, num_encoded: Callable[[], int]) -> None:
    settings = run_settings(**WITHOUT_FLIPS)
    material(settings, display)
    num_encoded()
    given = {"prior_images": str(class_images(settings)), "num_prior_images": 200, "prior_sampling_steps": 50}
    assert not [name for name in material(run_settings(prior=given, **WITHOUT_FLIPS), display).made_of if "latent" in name]
    assert num_encoded() == 2


def test_a_resume_notices_another_latent(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(loop={"steps": 1}, **WITHOUT_FLIPS)
    run = train(settings, display).run
    prior_set = class_images(settings)
    whole = (prior_set / "00001.safetensors").read_bytes()
    other = {name: tensor + 1 for name, tensor in load(whole).items()}
    (prior_set / "00001.safetensors").write_bytes(sealed(save(other, unsealed(whole))))
    with pytest.raises(RunError) as refused:
        resume(run, {"loop.steps": 2}, display)
    assert refused.value.problems[1:] == ("latent of class image 00001.png is changed",)


@pytest.mark.slow
def test_deleted_latents_are_made_again_and_refuse_no_resume(
    run_settings: MakeSettings, display: Display, said: Callable[[], str]
) -> None:
    settings = run_settings(loop={"steps": 1}, **WITHOUT_FLIPS)
    run, prior_set = train(settings, display).run, class_images(settings)
    before = {path.name: path.read_bytes() for path in prior_set.iterdir()}
    for path in prior_set.glob("*.safetensors"):
        path.unlink()
    resume(run, {"loop.steps": 2}, display)
    assert f"2 latents of class images missing in {prior_set}: made again" in said()
    assert {path.name: path.read_bytes() for path in prior_set.iterdir()} == before

    with Image.open(prior_set / "00000.png") as image:  # as if another device had made them, which rounds differently
        image.convert("L").convert("RGB").save(prior_set / "00000.png")
    changed = (prior_set / "00000.png").read_bytes()
    (prior_set / "00000.safetensors").unlink()
    with pytest.raises(RunError, match=r"class image 00000\.png is changed"):
        resume(run, {"loop.steps": 3}, display)
    assert (prior_set / "00000.png").read_bytes() == changed, "nothing is overwritten"


@pytest.mark.slow
def test_stopped_between_a_latent_and_its_picture_the_set_becomes_the_same(
    run_settings: MakeSettings, display: Display, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture that stands has its latent: only so does a run that was killed learn from the same numbers as another."""
    undisturbed = run_settings(prior={"prior_folder": str(tmp_path / "undisturbed")})
    disturbed = run_settings(prior={"prior_folder": str(tmp_path / "disturbed")})
    material(undisturbed, display)
    put_latent = PriorSet.put_latent

    def killed(self: PriorSet, *arguments: Any, **more: Any) -> None:
        put_latent(self, *arguments, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PriorSet, "put_latent", killed)
        with pytest.raises(KeyboardInterrupt):
            material(disturbed, display)
    assert [path.name for path in (tmp_path / "disturbed").rglob("0*")] == ["00000.safetensors"]
    material(disturbed, display)
    one, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.*") if path.name != ".lock"}
        for name in ("undisturbed", "disturbed")
    )
    assert one == other
    assert sorted(one) == ["00000.png", "00000.safetensors", "00001.png", "00001.safetensors", "manifest.json"]


def test_pictures_of_an_older_version_are_not_made_again(run_settings: MakeSettings, display: Display) -> None:
    settings = run_settings(**WITHOUT_FLIPS)
    material(settings, display)
    folder = class_images(settings)
    (folder / "00000.safetensors").unlink()
    (folder / "00001.png").unlink()  # its batch is made again, and the first picture with it
    before = (folder / "00000.png").stat().st_mtime_ns
    made = material(settings, display)
    assert (folder / "00000.png").stat().st_mtime_ns == before
    assert sorted(path.name for path in folder.glob("*.safetensors")) == ["00001.safetensors"]
    assert made.encoded.moments[made.source.priors[0].photo.digest, WHOLE].deviation.any()
