"""Which encoders measure: what suits the pictures, what was asked for, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.evaluation import choose_encoders as recipe
from dreambooth.evaluation.choose_encoders import choose_encoders
from dreambooth.measures.settings import EvaluationSettings

CPU = torch.device("cpu")


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was loaded, instead of loading it."""
    calls: list[tuple[Any, ...]] = []

    def note(kind: str) -> Any:
        def load(*arguments: Any, **named: Any) -> Any:
            calls.append((kind, *arguments, *(value for key, value in named.items() if key != "device")))
            return SimpleNamespace(name=kind)

        return load

    for name in ("embedded_eye", "embedded_distance", "load_vit", "load_clip"):
        monkeypatch.setattr(recipe, name, note(name))
    monkeypatch.setattr(recipe, "embedded_clip", lambda family, *, device: note("embedded_clip")(family.resolution))
    monkeypatch.setattr(recipe, "fetch_encoder", lambda hub_id: Path("cache") / hub_id)
    return calls


def test_images_of_the_small_world_are_measured_by_the_bundled_encoders(loaded: list[tuple[Any, ...]], tmp_path: Path) -> None:
    found = choose_encoders(EvaluationSettings(), side=64, is_toybox=True, device=CPU, cache=tmp_path)
    assert loaded == [("embedded_eye",), ("embedded_clip", 64), ("embedded_distance",)]
    assert found.distance_name == "embedded_distance"
    assert found.cache.folder == tmp_path


def test_others_by_the_encoders_of_the_paper(loaded: list[tuple[Any, ...]], tmp_path: Path) -> None:
    found = choose_encoders(EvaluationSettings(), side=512, is_toybox=False, device=CPU, cache=tmp_path)
    dino, clip = "facebook/dino-vits16", "openai/clip-vit-base-patch32"
    assert loaded == [("load_vit", Path("cache", dino), dino), ("load_clip", Path("cache", clip), clip)]
    assert found.distance is None
    assert found.distance_name == "1 - cosine of load_vit"


def test_other_images_of_64_pixels_are_measured_by_the_encoders_of_the_paper(
    loaded: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    found = choose_encoders(EvaluationSettings(), side=64, is_toybox=False, device=CPU, cache=tmp_path)
    assert [call[0] for call in loaded] == ["load_vit", "load_clip"]
    assert found.distance is None


def test_a_folder_is_taken_as_it_is(loaded: list[tuple[Any, ...]], tmp_path: Path) -> None:
    choose_encoders(
        EvaluationSettings(dino=str(tmp_path), clip=str(tmp_path)), side=64, is_toybox=True, device=CPU, cache=tmp_path
    )
    assert [call[:2] for call in loaded] == [("load_vit", tmp_path), ("load_clip", tmp_path), ("embedded_distance",)]


@pytest.mark.usefixtures("loaded")
def test_a_folder_that_is_not_there_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "encoders").mkdir()
    for name in (str(tmp_path / "dino"), "dino", "./a/b", "encoders/dino"):
        with pytest.raises(ModelFileError, match="no such folder") as caught:
            choose_encoders(EvaluationSettings(dino=name), side=512, is_toybox=False, device=CPU, cache=tmp_path)
        assert "a hub id such as facebook/dino-vits16" in caught.value.text


@pytest.mark.usefixtures("loaded")
def test_an_encoder_that_cannot_be_had_says_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(hub_id: str) -> Path:
        raise ModelFileError(f"{hub_id}: not here", hint="Connect.")

    monkeypatch.setattr(recipe, "fetch_encoder", fetch)
    for asked, field, hub_id, scores in (
        (EvaluationSettings(clip=str(tmp_path)), "dino", "facebook/dino-vits16", "DINO, PRES and drift"),
        (EvaluationSettings(dino=str(tmp_path)), "clip", "openai/clip-vit-base-patch32", "CLIP-I and CLIP-T"),
    ):
        with pytest.raises(ModelFileError) as caught:
            choose_encoders(asked, side=128, is_toybox=False, device=CPU, cache=tmp_path)
        wanted = f"It is the encoder for {scores} on 128-pixel images. To use another one: --{field} FOLDER."
        assert (caught.value.problems, caught.value.hint) == ((f"{hub_id}: not here",), f"{wanted}\nConnect.")


@pytest.mark.usefixtures("loaded")
def test_what_ships_does_not_judge_large_pictures(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        choose_encoders(EvaluationSettings(dino="toybox", clip="toybox"), side=512, is_toybox=False, device=CPU, cache=tmp_path)
    assert [problem.split(",")[0] for problem in caught.value.problems] == ["dino is toybox", "clip is toybox"]
    assert "this model's have 512 pixels" in caught.value.text


@pytest.mark.usefixtures("loaded")
def test_lpips_is_read_from_its_two_files(tmp_path: Path) -> None:
    convolutions = ((0, 64, 3, 11), (3, 192, 64, 5), (6, 384, 192, 3), (8, 256, 384, 3), (10, 256, 256, 3))
    network, weights = {}, {}
    for level, (place, width, width_in, kernel) in enumerate(convolutions):
        network[f"features.{place}.weight"] = torch.full((width, width_in, kernel, kernel), 0.01)
        network[f"features.{place}.bias"] = torch.zeros(width)
        weights[f"lin{level}.model.1.weight"] = torch.ones(1, width, 1, 1)
    torch.save(network, tmp_path / "alexnet-owt-7be5be79.pth")
    torch.save(weights, tmp_path / "alex.pth")
    found = choose_encoders(EvaluationSettings(lpips=tmp_path), side=64, is_toybox=True, device=CPU, cache=tmp_path)
    assert found.distance_name == "LPIPS (AlexNet, v0.1)"
    with pytest.raises(ModelFileError, match=r"alexnet-owt-7be5be79\.pth: no such file"):
        choose_encoders(EvaluationSettings(lpips=tmp_path / "elsewhere"), side=64, is_toybox=True, device=CPU, cache=tmp_path)
