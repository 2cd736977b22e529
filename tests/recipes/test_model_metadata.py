"""What a written model says about itself: names and digests, never a path of the machine that made it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

from dreambooth.display import Display
from dreambooth.files import without_paths
from dreambooth.recipes.convert import convert
from dreambooth.recipes.train import train
from dreambooth.schema.verbs import ConvertSettings, TrainSettings
from dreambooth.weights.read import read_model
from dreambooth.weights.write import write_single_file


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        read: dict[str, str] = file.metadata()
    return read


def hash_of_content(path: Path) -> str:
    raw = path.read_bytes()
    return "0x" + hashlib.sha256(raw[8 + int.from_bytes(raw[:8], "little") :]).hexdigest()


@pytest.mark.slow
def test_a_trained_model_keeps_names_and_no_paths(
    run_settings: Callable[..., TrainSettings], photos: Path, tmp_path: Path, display: Display
) -> None:
    settings = run_settings(output={"output": tmp_path / "Rex the dog"})
    model = train(settings, display).run / "model.safetensors"
    said = metadata(model)
    private = [str(tmp_path), str(photos), str(photos.parent), str(Path.home())]
    assert [(key, path) for key, value in said.items() for path in private if path in value and path != "/"] == []
    config = json.loads(said["dreambooth.config"])
    assert config["subject"]["photos"] == photos.name
    assert config["output"]["output"] == "Rex the dog"
    assert config["base"]["model"] == Path(settings.base.model).name
    assert said["modelspec.title"] == "Rex the dog"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", said["modelspec.date"])
    assert said["modelspec.hash_sha256"] == hash_of_content(model)
    assert "modelspec.merged_from" not in said


def test_converting_cuts_paths_and_hashes_anew(golden_checkpoint: Path, tmp_path: Path, display: Display) -> None:
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    recipe = {
        "type": "webui",
        "primary_model_name": "/mnt/ann/a.ckpt",
        "secondary_model_name": "b",
        "tertiary_model_name": None,
    }
    write_single_file(
        old,
        read_model(str(golden_checkpoint)),
        dtype=None,
        metadata={
            "dreambooth.config": json.dumps({"base": {"model": "/mnt/ann/sd.ckpt"}, "steps": 3}),
            "sd_merge_recipe": json.dumps(recipe),
            "modelspec.date": "2023-01-02",
        },
    )
    convert(ConvertSettings(source=str(old), destination=new, dtype="float16"), display)
    said = metadata(new)
    assert json.loads(said["dreambooth.config"]) == {"base": {"model": "sd.ckpt"}, "steps": 3}
    assert said["modelspec.merged_from"] == "a.ckpt, b"
    assert said["modelspec.date"] == "2023-01-02"
    assert said["modelspec.hash_sha256"] == hash_of_content(new) != metadata(old)["modelspec.hash_sha256"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/mnt/ann/photos", "photos"),
        ("C:\\People\\ann\\sd.ckpt", "sd.ckpt"),
        ("~/models/sd.ckpt", "sd.ckpt"),
        (Path("photos/rex"), "rex"),
        ("runwayml/stable-diffusion-v1-5", "runwayml/stable-diffusion-v1-5"),
        ("photo of a {token}", "photo of a {token}"),
        ({"a": ["/x/y", 1, None], "b": (Path("/z"), True)}, {"a": ["y", 1, None], "b": ["z", True]}),
    ],
)
def test_paths_are_cut_to_names(value: object, expected: object) -> None:
    assert without_paths(value) == expected
