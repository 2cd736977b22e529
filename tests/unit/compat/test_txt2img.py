"""The original's flags for pictures: what each stands for, what is refused, and the files that come of it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from dreambooth.compat.arguments import read_arguments
from dreambooth.compat.original_pictures import WrittenPictures
from dreambooth.compat.settings import OriginalPictures
from dreambooth.compat.txt2img import FLAGS, pictures_asked_for, txt2img
from dreambooth.config import read_yaml
from dreambooth.display import Display
from dreambooth.display_silent import SilentDisplay
from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.shapes import TextShape, UNetShape, VaeShape
from dreambooth.recipes.generate import generate
from dreambooth.sampling.settings import SampleSettings
from dreambooth.schema.verbs import GenerateSettings
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.original_config import check_original_config, contradictions
from dreambooth.weights.read import read_base
from dreambooth.weights.settings import BaseModelSettings

CONFIG = Path(__file__).parents[3] / "configs" / "stable-diffusion" / "v1-inference.yaml"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def asked_for(*arguments: str) -> tuple[OriginalPictures, tuple[str, ...]]:
    return pictures_asked_for(read_arguments("txt2img", "", FLAGS, arguments))


def problems_of(*arguments: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        asked_for(*arguments)
    assert caught.value.hint == "See `python scripts/stable_txt2img.py --help`."
    return caught.value.problems


def value_at(settings: Any, path: str) -> Any:
    for name in path.split("."):
        settings = getattr(settings, name)
    return settings


def test_the_flags_are_those_of_the_original() -> None:
    assert {name for flag in FLAGS for name in flag.names} == {
        *("--prompt", "--outdir", "--skip_grid", "--skip_save", "--ddim_steps", "--plms", "--laion400m", "--fixed_code"),
        *("--ddim_eta", "--n_iter", "--H", "--W", "--C", "--f", "--n_samples", "--n_rows", "--scale", "--from-file"),
        *("--config", "--ckpt", "--seed", "--precision", "--embedding_path"),
    }


def test_the_defaults_are_those_of_the_original() -> None:
    asked, prompts = asked_for()
    assert prompts == ("a painting of a virus monster playing guitar",) * 3
    assert asked.model_dump(exclude_unset=True) == {
        "base": {"model": "models/ldm/stable-diffusion-v1/model.ckpt", "weights": "raw"},
        "sample": {
            "prompt": ("a painting of a virus monster playing guitar",),
            "output": Path("outputs/txt2img-samples"),
            "batch_size": 3,
        },
    }
    sample = asked.sample
    assert (sample.sampler, sample.sampling_steps, sample.eta, sample.guidance_scale, sample.seed) == ("ddim", 50, 0.0, 7.5, 42)
    assert (sample.height, sample.width, sample.precision, sample.negative_prompt) == (None, None, None, "")
    assert (asked.n_iter, asked.n_rows, asked.fixed_code, asked.skip_grid, asked.skip_save) == (2, 0, False, False, False)
    assert (asked.base.config, asked.C, asked.f) == (None, None, None)


@pytest.mark.parametrize(
    ("arguments", "path", "value"),
    [
        ("--prompt sks", "sample.prompt", ("sks",)),
        ("--outdir out/here", "sample.output", Path("out/here")),
        ("--skip_grid", "skip_grid", True),
        ("--skip_save", "skip_save", True),
        ("--ddim_steps 100", "sample.sampling_steps", 100),
        ("--plms", "sample.sampler", "plms"),
        ("--fixed_code", "fixed_code", True),
        ("--ddim_eta 0.5", "sample.eta", 0.5),
        ("--n_iter 4", "n_iter", 4),
        ("--H 256", "sample.height", 256),
        ("--W 640", "sample.width", 640),
        ("--C 16", "C", 16),
        ("--f 4", "f", 4),
        ("--n_samples 8", "sample.batch_size", 8),
        ("--n_rows 2", "n_rows", 2),
        ("--scale 10.0", "sample.guidance_scale", 10.0),
        ("--config given.yaml", "base.config", Path("given.yaml")),
        ("--ckpt runs/rex", "base.model", "runs/rex"),
        ("--seed 7", "sample.seed", 7),
        ("--precision full", "sample.precision", "fp32"),
        ("--precision autocast", "sample.precision", None),
        ("--embedding_path anything", "base.model", "models/ldm/stable-diffusion-v1/model.ckpt"),
    ],
)
def test_a_flag_is_a_setting(arguments: str, path: str, value: object) -> None:
    Path("given.yaml").write_text("model: {}\n")
    asked, _ = asked_for(*arguments.split())
    assert value_at(asked, path) == value


def test_a_file_gives_one_prompt_for_each_picture_and_a_prompt_as_many_as_a_batch() -> None:
    Path("list.txt").write_text("a cat\n\n  a dog \n", encoding="utf-8")
    asked, prompts = asked_for("--from-file", "list.txt", "--n_samples", "5")
    assert (prompts, asked.sample.prompt, asked.sample.prompts_file) == (("a cat", "a dog"), (), Path("list.txt"))
    assert asked_for("--prompt", "sks", "--n_samples", "2")[1] == ("sks", "sks")


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("model: {params: {use_ema: true}}", "ema"),
        ("model: {params: {use_ema: false}}", "raw"),
        ("model: {params: {timesteps: 1000}}", "ema"),
        ("model: 3", "raw"),
        ("steps: 800", "raw"),
    ],
)
def test_the_yaml_chooses_between_averages_and_last_weights(text: str, weights: str) -> None:
    Path("given.yaml").write_text(text)
    assert asked_for("--config", "given.yaml")[0].base.weights == weights


def test_everything_wrong_is_told_at_once() -> None:
    Path("taken").touch()
    found = problems_of(
        *("--ddim_stepz", "5", "--laion400m", "--from-file", "no.txt", "--prompt", "x", "--config", "no.yaml", "extra"),
        *("--outdir", "taken", "--ddim_steps", "1001", "--n_iter", "0", "--n_samples", "two", "--n_rows", "-1", "--H", "500"),
        *("--scale", "-1", "--seed", "-1", "--ddim_eta", "2", "--C", "0", "--f", "x", "--precision", "fulll", "--W", "32"),
    )
    assert found == (
        "unknown option --ddim_stepz; did you mean --ddim_steps?",
        "unexpected argument 'extra'",
        "--laion400m never worked in the original program, which could not load its own settings for that model; omit it "
        "and use a Stable Diffusion 1 model with --ckpt",
        "--from-file replaces --prompt, which would have no effect; use only one of them",
        "--from-file is no.txt: cannot be read: No such file or directory",
        "no.yaml: no such settings file",
        "--outdir is taken: images cannot be written there: File exists",
        "--ddim_steps is '1001': expected at most 1000",
        "--scale is '-1': expected at least 0",
        "--ddim_eta is '2': expected at most 1",
        "--seed is '-1': expected at least 0",
        "--W is '32': expected at least 64",
        "--H is '500': expected a multiple of 8",
        "--n_samples is 'two': expected a whole number",
        "--n_iter is '0': expected at least 1",
        "--n_rows is '-1': expected at least 0",
        "--precision is 'fulll': expected autocast or full; did you mean 'full'?",
        "--C is '0': expected at least 1",
        "--f is 'x': expected a whole number",
    )


def test_plms_takes_no_fresh_noise() -> None:
    assert problems_of("--plms", "--ddim_eta", "0.5") == (
        "eta applies only to the ddim sampler and would have no effect with plms; omit it",
    )


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, inner in value.items():
        leaves |= flat(inner, f"{prefix}{key}.") if isinstance(inner, Mapping) else {f"{prefix}{key}": inner}
    return leaves


def test_the_yaml_in_the_repository_is_that_of_the_real_model() -> None:
    unet, vae = UNetShape(4, 4, (320, 640, 1280, 1280), 2, (1, 1, 1, 0), 1, 768, False), VaeShape(3, 4, (128, 256, 512, 512), 2)
    family = StableDiffusion1(unet, vae, TextShape(49408, 77, 768, 3072, 12))
    check_original_config(CONFIG, family)
    entries = flat(read_yaml(CONFIG))
    compared = {name for name in entries if contradictions({name: "another"}, family)}
    assert len(compared) == 22
    assert entries.keys() - compared == {"model.params.use_ema", "model.params.cond_stage_config.target"}
    assert asked_for("--config", str(CONFIG))[0].base.weights == "raw"


def test_the_yaml_in_the_repository_refuses_a_model_of_another_size(golden_checkpoint: Path, display: Display) -> None:
    with pytest.raises(ModelFileError, match="context_dim is 768; this model needs 64"):
        txt2img(["--ckpt", str(golden_checkpoint), "--config", str(CONFIG)], display)


@pytest.fixture(scope="session")
def read_once() -> Callable[..., ModelWeights]:
    """Reads each model once for all tests; its modules, too, are built once."""

    @cache
    def read(base: BaseModelSettings) -> ModelWeights:
        found = read_base(base)
        built = found.build(dtype=torch.float32)
        found.__dict__["build"] = lambda *, dtype: built  # frozen, so not by assignment
        return found

    return read


@pytest.fixture
def make(
    golden_checkpoint: Path, read_once: Callable[..., ModelWeights], display: Display, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., WrittenPictures]:
    """Small pictures by the miniature checkpoint, with two steps."""
    monkeypatch.setattr("dreambooth.compat.original_pictures.read_base", read_once)

    def make(*arguments: str, steps: int = 2) -> WrittenPictures:
        small = ["--ckpt", str(golden_checkpoint), "--H", "64", "--W", "64", "--ddim_steps", str(steps), "--outdir", "out"]
        return txt2img([*small, *arguments], display)

    return make


def pixels(path: Path) -> NDArray[np.int16]:
    with Image.open(path) as image:
        return np.asarray(image, dtype=np.int16)


def record(path: Path) -> dict[str, Any]:
    with Image.open(path) as image:
        found: dict[str, Any] = json.loads(image.text["dreambooth"])  # type: ignore[attr-defined]
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_files_are_those_of_the_original(make: Callable[..., WrittenPictures], said: Callable[[], str]) -> None:
    made = make("--prompt", "photo of a sks dog", "--n_samples", "2", "--n_iter", "2", "--n_rows", "3", "--C", "4", "--f", "8")
    by_prompt, by_number = [f"photo of a sks dog_{k}.png" for k in range(4)], [f"{k:05d}.png" for k in range(4)]
    assert names(Path("out")) == sorted([*by_prompt, "photo-of-a-sks-dog-0000.png", "samples"])
    assert names(Path("out/samples")) == by_number
    assert [path.name for path in made.by_prompt] == by_prompt
    for one, other in zip(made.by_prompt, made.by_number, strict=True):
        assert one.samefile(other)
    assert [record(path)["index"] for path in made.by_prompt] == [0, 1, 2, 3]
    grid = pixels(made.grids[0])
    assert grid.shape == (2 * 68, 3 * 68, 3)
    assert np.array_equal(grid[:64, 136:200], pixels(made.by_prompt[2]))
    assert np.array_equal(grid[68:132, :64], pixels(made.by_prompt[3]))
    text = said()
    assert re.search(r"\(raw weights\) on .* in float32", text)
    assert "Images in out:\n" in text
    assert "  by prompt: photo of a sks dog_0.png to photo of a sks dog_3.png\n" in text
    assert "  by number: 00000.png to 00003.png in out/samples\n" in text
    assert "  grid: photo-of-a-sks-dog-0000.png\n" in text


def test_pictures_are_those_of_generate(make: Callable[..., WrittenPictures], golden_checkpoint: Path) -> None:
    ours = make(
        "--prompt", "a cat", "--n_samples", "3", "--n_iter", "1", "--skip_grid", "--ddim_eta", "1", "--seed", "9"
    ).by_prompt
    base = BaseModelSettings(model=str(golden_checkpoint), weights="raw")
    sample = SampleSettings(
        prompt=("a cat",), num_images=3, sampling_steps=2, width=64, height=64, eta=1.0, seed=9, output=Path("g")
    )
    theirs = generate(GenerateSettings(base=base, sample=sample), SilentDisplay()).files
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(pixels(one) - pixels(other)).max() <= 1  # a batch of another size may round over the edge of a level
        assert {**record(one)} == {**record(other)}


def test_averages_are_used_where_the_yaml_says_so(
    make: Callable[..., WrittenPictures], golden_config: Path, said: Callable[[], str]
) -> None:
    Path("ema.yaml").write_text(golden_config.read_text().replace("use_ema: false", "use_ema: true"))
    one = ("--prompt", "a cat", "--n_samples", "1", "--n_iter", "1", "--skip_grid", "--skip_save")
    averages = make(*one, "--config", "ema.yaml").by_prompt[0]
    last = make(*one, "--config", str(golden_config)).by_prompt[0]
    assert "(EMA weights)" in said()
    assert record(averages)["model_digest"] != record(last)["model_digest"]


def test_what_is_left_out(make: Callable[..., WrittenPictures]) -> None:
    one = ("--prompt", "a cat", "--n_samples", "1", "--n_iter", "1")
    make(*one, "--skip_grid")
    assert (names(Path("out")), names(Path("out/samples"))) == (["a cat_0.png", "samples"], ["00000.png"])
    make(*one, "--skip_save")
    assert names(Path("out")) == ["a cat_0.png", "a cat_1.png", "a-cat-0000.png", "samples"]
    assert names(Path("out/samples")) == ["00000.png"]


def test_nothing_is_overwritten(make: Callable[..., WrittenPictures]) -> None:
    Path("out/samples").mkdir(parents=True)
    there = ("a cat_3.png", "a cat_x.png", "a-cat-0004.jpg", "a-cat-0006-2.png", "a-cat-2024-0000.png", "samples/00006.jpg")
    for name in there:
        Path("out", name).write_text("mine")
    Path("out/samples/00008.png").mkdir()  # whatever stands in the way
    made = make("--prompt", "a cat", "--n_samples", "2", "--n_iter", "1")
    assert [path.name for path in made.by_prompt] == ["a cat_4.png", "a cat_5.png"]
    assert [path.name for path in made.by_number] == ["00009.png", "00010.png"]
    assert [path.name for path in made.grids] == ["a-cat-0007.png"]
    assert {Path("out", name).read_text() for name in there} == {"mine"}


def test_names_that_another_program_takes_meanwhile_are_left_to_it(
    make: Callable[..., WrittenPictures], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dreambooth.compat.picture_files.next_number", lambda *_: 0)  # what was free a moment ago
    Path("out/samples").mkdir(parents=True)
    there = ("a cat_0.png", "a-cat-0000.png", "samples/00000.png")
    for name in there:
        Path("out", name).write_text("theirs")
    made = make("--prompt", "a cat", "--n_samples", "2", "--n_iter", "1")
    assert [path.name for path in made.by_prompt] == ["a cat_1.png", "a cat_2.png"]
    assert [path.name for path in made.by_number] == ["00001.png", "00002.png"]
    assert [path.name for path in made.grids] == ["a-cat-0001.png"]
    assert all(one.samefile(other) for one, other in zip(made.by_prompt, made.by_number, strict=True))
    assert {Path("out", name).read_text() for name in there} == {"theirs"}


def test_a_file_system_without_hard_links_gets_copies(
    make: Callable[..., WrittenPictures], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    made = make("--prompt", "a cat", "--n_samples", "2", "--n_iter", "1", "--skip_grid")
    for one, other in zip(made.by_prompt, made.by_number, strict=True):
        assert not one.samefile(other)
        assert one.read_bytes() == other.read_bytes()
    assert names(Path("out/samples")) == ["00000.png", "00001.png"]


def test_prompts_of_a_file_have_each_its_name_and_the_grid_that_of_the_file(make: Callable[..., WrittenPictures]) -> None:
    lines = ["dog/cat", "a" * 300, "a dog, on the moon", "犬", "dog/cat"]
    Path("my prompts.txt").write_text("\n\n".join(lines), encoding="utf-8")
    made = make("--from-file", "my prompts.txt", "--n_samples", "2", "--n_iter", "2")
    once = ["dog-cat_{}.png", f"{'a' * 80}_{{}}.png", "a dog on the moon_{}.png", "犬_{}.png"]
    expected = [name.format(k) for k in (0, 1) for name in once]
    expected.insert(4, "dog-cat_1.png")
    expected[5] = "dog-cat_2.png"
    assert [path.name for path in made.by_prompt] == [*expected, "dog-cat_3.png"]
    assert [record(path)["prompt"] for path in made.by_prompt] == lines * 2
    assert [record(path)["index"] for path in made.by_prompt] == list(range(10))
    assert [path.name for path in made.grids] == ["my-prompts-0000.png"]
    assert pixels(made.grids[0]).shape == (5 * 68, 2 * 68, 3)


def test_iterations_differ_unless_they_start_from_the_same_noise(make: Callable[..., WrittenPictures]) -> None:
    two = ("--prompt", "a cat", "--n_samples", "2", "--n_iter", "2", "--skip_grid", "--skip_save")
    first, second, third, fourth = map(pixels, make(*two).by_prompt)
    assert min(np.abs(one - other).max() for one, other in [(first, second), (first, third), (second, fourth)]) > 20
    same = make(*two, "--fixed_code").by_prompt
    assert np.array_equal(pixels(same[0]), pixels(same[2]))
    assert np.array_equal(pixels(same[1]), pixels(same[3]))
    assert np.array_equal(pixels(same[0]), first)
    assert (record(same[2])["index"], record(same[2])["start_index"]) == (2, 0)
    fresh = [pixels(path) for path in make(*two, "--fixed_code", "--ddim_eta", "1").by_prompt]
    assert np.abs(fresh[0] - fresh[2]).max() > 5


@pytest.mark.parametrize(("sampler", "steps"), [((), 1), (("--plms",), 3), ((), 9), (("--plms",), 27)])
def test_any_number_of_steps_works(make: Callable[..., WrittenPictures], sampler: tuple[str, ...], steps: int) -> None:
    one = ("--prompt", "a cat", "--n_samples", "1", "--n_iter", "1", "--skip_grid", "--skip_save", "--scale", "1")
    found = record(make(*one, *sampler, steps=steps).by_prompt[0])
    assert (found["steps"], found["sampler"]) == (steps, "plms" if sampler else "ddim")


def test_latents_that_the_model_does_not_have_are_refused(make: Callable[..., WrittenPictures]) -> None:
    with pytest.raises(SettingsError) as caught:
        make("--C", "16", "--f", "4")
    assert caught.value.problems == (
        "--C is 16: this model has 4 latent channels",
        "--f is 4: this model has 8 pixels per latent",
    )


def test_what_has_no_effect_says_so(display: Display, said: Callable[[], str]) -> None:
    with pytest.raises(ModelFileError, match=r"models/ldm/stable-diffusion-v1/model\.ckpt: no such file or folder"):
        txt2img(["--embedding_path", "e.pt"], display)
    assert "--embedding_path is ignored; it had no effect in the original program either." in said()


def test_a_grid_too_large_is_cut_into_several(make: Callable[..., WrittenPictures], monkeypatch: pytest.MonkeyPatch) -> None:
    import dreambooth.compat.picture_files as module

    whole = module.write_contact_sheet
    monkeypatch.setattr(module, "write_contact_sheet", lambda path, rows: whole(path, rows, max_side=140))
    many = ("--prompt", "a cat", "--n_samples", "3", "--n_iter", "1", "--n_rows", "1", "--skip_save")
    assert [path.name for path in make(*many).grids] == ["a-cat-0000.png", "a-cat-0000-2.png"]
    Path("out/a-cat-0000.png").unlink()
    assert [path.name for path in make(*many).grids] == ["a-cat-0001.png", "a-cat-0001-2.png"]


def test_an_interrupt_says_where_the_pictures_are(
    make: Callable[..., WrittenPictures], monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    from dreambooth.compat.picture_files import PictureFiles
    from dreambooth.errors import Interrupted

    save = PictureFiles.save

    def save_and_stop(files: PictureFiles, finished: Any) -> None:
        save(files, finished)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(PictureFiles, "save", save_and_stop)
    with pytest.raises(Interrupted) as caught:
        make("--prompt", "a cat")
    assert (caught.value.text, caught.value.exit_code) == ("Stopped. The images made so far are in out.", 130)
    assert names(Path("out")) == ["a cat_0.png", "samples"]
