"""The embedded encoders against the renderer, which knows what every picture shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreambooth.errors import ModelFileError
from dreambooth.families.untrained import untrained_vit
from dreambooth.measures import embedded
from dreambooth.measures.embedded import embedded_clip, embedded_distance, embedded_eye
from dreambooth.measures.encoders import ClipEncoder, ImageEncoder
from dreambooth.measures.metrics import confusion_matrix, copying, cosines, div, mean_pairwise_cosine, prompt_cosines
from dreambooth.toybox.eye import EYE
from dreambooth.toybox.files import EYE_FILE
from dreambooth.toybox.judge import SIDE
from dreambooth.toybox.render import render
from dreambooth.toybox.subjects import HELD_OUT_SEED, PHOTO_SEED, SUBJECTS, subject_scenes
from dreambooth.toybox.world import CLASSES, Scene, random_look
from experiments.toybox.parts import embedded_family

CPU = torch.device("cpu")
NAMES = ("banded-container", "zigzag-mug", "banded-car")


def rendered(scenes: Sequence[Scene]) -> Tensor:
    pictures = np.stack([render(scene, SIDE) for scene in scenes])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def with_other_objects(scenes: Sequence[Scene], class_words: Sequence[str]) -> Tensor:
    """The same places, views and lights, with ordinary objects of these classes in turn: only the object differs."""
    random = np.random.default_rng(0)
    return rendered(
        [
            replace(scene, look=random_look(random, class_words[number % len(class_words)]))
            for number, scene in enumerate(scenes)
        ]
    )


def held_out_scenes(name: str) -> Sequence[Scene]:
    return subject_scenes(SUBJECTS[name], num=4, seed=HELD_OUT_SEED)


@pytest.fixture(scope="module")
def photos() -> dict[str, Tensor]:
    return {name: rendered(subject_scenes(SUBJECTS[name], num=4, seed=PHOTO_SEED)) for name in NAMES}


@pytest.fixture(scope="module")
def held_out() -> dict[str, Tensor]:
    return {name: rendered(held_out_scenes(name)) for name in NAMES}


@pytest.fixture(scope="module")
def clip() -> ClipEncoder:
    return embedded_clip(embedded_family(), device=CPU)


def check_against_the_truth(encoder: ImageEncoder, photos: dict[str, Tensor], held_out: dict[str, Tensor]) -> None:
    """The order that the renderer knows: the subject, then other objects of its class, then other classes."""
    features = {name: encoder.encode(pictures) for name, pictures in photos.items()}
    new = {name: encoder.encode(pictures) for name, pictures in held_out.items()}
    for name in NAMES:
        scenes, word = held_out_scenes(name), SUBJECTS[name].class_word
        of_its_class = encoder.encode(with_other_objects(scenes, [word]))
        of_others = encoder.encode(with_other_objects(scenes, [other for other in CLASSES if other != word]))
        same, alike, foreign = (mean_pairwise_cosine(each, features[name]) for each in (new[name], of_its_class, of_others))
        assert same > alike + 0.1, name
        assert alike > foreign + 0.1, name
    assert torch.equal(confusion_matrix(list(new.values()), list(features.values())), torch.eye(3, dtype=torch.float64))


def test_clip_ranks_the_subject_over_its_class_over_other_classes(
    clip: ClipEncoder, photos: dict[str, Tensor], held_out: dict[str, Tensor]
) -> None:
    check_against_the_truth(clip, photos, held_out)


@pytest.mark.skipif(not EYE_FILE.exists(), reason="the eye is not trained yet")
def test_the_eye_ranks_the_subject_over_its_class_over_other_classes(
    photos: dict[str, Tensor], held_out: dict[str, Tensor]
) -> None:
    check_against_the_truth(embedded_eye(device=CPU), photos, held_out)


def test_clip_finds_the_caption_that_is_true(clip: ClipEncoder, held_out: dict[str, Tensor]) -> None:
    texts = clip.encode_text([f"photo of a {SUBJECTS[name].class_word}" for name in NAMES])
    images = torch.stack([clip.encode(held_out[name]).mean(dim=0) for name in NAMES])
    assert cosines(images, texts).argmax(dim=1).tolist() == [0, 1, 2]
    assert prompt_cosines(images, texts).mean() > prompt_cosines(images, texts.roll(1, 0)).mean() + 0.2


def test_a_copied_photo_raises_the_alarm_and_a_new_one_does_not(photos: dict[str, Tensor], held_out: dict[str, Tensor]) -> None:
    distance = embedded_distance(device=CPU)
    for name in NAMES:
        scenes = subject_scenes(SUBJECTS[name], num=4, seed=PHOTO_SEED)
        beside = rendered([replace(scene, view=replace(scene.view, turn=scene.view.turn + 0.1)) for scene in scenes])
        for pictures, is_copy in ((beside, True), (held_out[name], False)):
            matrix = distance.between(torch.cat([photos[name], pictures]))
            found = copying(matrix[4:, :4], matrix[:4, :4])
            assert found is not None and found.is_alarming == is_copy, name
            repeated = [0, 1, 2, 3, 3]
            again = copying(matrix[4:, repeated], matrix[repeated][:, repeated])
            assert again is not None and (again.spread, again.share) == (found.spread, found.share), name


def test_the_distance_finds_more_diversity_among_more_diverse_pictures(photos: dict[str, Tensor]) -> None:
    distance = embedded_distance(device=CPU)
    scene = subject_scenes(SUBJECTS["zigzag-mug"], num=1, seed=PHOTO_SEED)[0]
    turned = rendered([replace(scene, view=replace(scene.view, turn=scene.view.turn + step)) for step in (0.0, 0.3, 0.6)])
    mixed = torch.stack([photos[name][0] for name in NAMES])
    same = turned[:1].expand(3, -1, -1, -1)
    measured = [div(distance.between(pictures).unsqueeze(0)) for pictures in (same, turned, mixed)]
    assert measured[0] == 0.0
    assert measured[0] < measured[1] < measured[2]


def test_the_towers_are_those_of_the_shipped_files(clip: ClipEncoder) -> None:
    state = clip.model.state_dict()
    stored = load_file(embedded.CLIP_FILE)
    tower = {name.removeprefix("clip."): tensor for name, tensor in stored.items() if name.startswith("clip.")}
    assert len(tower) > 50 and set(tower) < set(state)
    assert all(torch.equal(state[name], tensor.float()) for name, tensor in tower.items())
    text = load_file(embedded.EMBEDDED_MODEL_FILE)["cond_stage_model.transformer.text_model.final_layer_norm.weight"]
    assert torch.equal(state["text_model.final_layer_norm.weight"], text.float())


def test_an_eye_is_read_by_the_names_of_its_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "eye.safetensors"
    monkeypatch.setattr(embedded, "EYE_FILE", path)
    with pytest.raises(ModelFileError, match=r"eye\.safetensors: no such file(.|\n)*python -m experiments\.toybox train"):
        embedded_eye(device=CPU)
    vit = untrained_vit(EYE, seed=3).eval()
    tensors = {name: parameter.detach().half() for name, parameter in vit.named_parameters()}
    save_file(tensors, path)
    pixels = torch.rand((2, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    eight_bits = (pixels * 255).round() / 255
    vit.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    with torch.no_grad():
        expected = vit(pixel_values=eight_bits * 2 - 1).last_hidden_state[:, 0]
    torch.testing.assert_close(embedded_eye(device=CPU).encode(pixels), expected, rtol=1e-4, atol=1e-5)
    del tensors["layernorm.bias"]
    save_file(tensors, path)
    with pytest.raises(ModelFileError, match=r"holds other tensors than expected(.|\n)*layernorm\.bias"):
        embedded_eye(device=CPU)
    path.write_bytes(b"nothing")
    with pytest.raises(ModelFileError, match=r"cannot be read as a \.safetensors file"):
        embedded_eye(device=CPU)


def test_names_let_nobody_take_these_for_the_encoders_of_the_paper(clip: ClipEncoder) -> None:
    assert clip.name == "the toybox CLIP"
    assert "not LPIPS" in embedded_distance(device=CPU).name
