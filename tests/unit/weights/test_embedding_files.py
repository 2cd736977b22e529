"""Files of textual inversion: every form is read, ours are read by diffusers, and a word means its vectors and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.families.clip_tokenizer import TOKENIZER_FOLDER
from dreambooth.families.sd1 import StableDiffusion1
from dreambooth.families.sdxl import StableDiffusionXL
from dreambooth.weights.embedding_apply import NamedEmbedding, read_embeddings, with_embeddings
from dreambooth.weights.embedding_convert import convert_embedding
from dreambooth.weights.embedding_file import WORD, is_embedding_file, read_embedding_file, write_embedding_file
from dreambooth.weights.model_weights import ModelWeights
from tests.random_weights import random_model

_TABLE = "embeddings.token_embedding.weight"


@pytest.fixture(scope="module")
def model(miniature: StableDiffusion1) -> ModelWeights:
    return random_model(miniature, seed=0)


@pytest.fixture(scope="module")
def xl_model(miniature_xl: StableDiffusionXL) -> ModelWeights:
    return random_model(miniature_xl, seed=0)


def _vectors(model: ModelWeights, num: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(num)
    widths = {part: model.parts[part][_TABLE].shape[1] for part in model.family.text_encoders}
    return {part: torch.randn(num, width, generator=generator) for part, width in widths.items()}


def _write(path: Path, model: ModelWeights, num: int, word: str = "rex") -> Path:
    write_embedding_file(path, model.family, _vectors(model, num), dtype=torch.float32, metadata={WORD: word})
    return path


def _states(model: ModelWeights, prompt: str) -> Tensor:
    components = model.build(dtype=torch.float32)
    with torch.no_grad():
        text = model.family.encode_text(components.parts, model.family.tokenize(components.tokenizer, [prompt]))
    return torch.cat([one.flatten() for one in (text.states_BLD, text.pooled_BD) if one is not None])


def _in_rows(model: ModelWeights, rows: Mapping[int, int], num: int) -> ModelWeights:
    """The model whose table holds vector k of `_vectors` at row rows[k]."""
    parts = {name: dict(tensors) for name, tensors in model.parts.items()}
    for part, vectors_NW in _vectors(model, num).items():
        parts[part][_TABLE] = parts[part][_TABLE].clone()
        for vector, row in rows.items():
            parts[part][_TABLE][row] = vectors_NW[vector]
    return ModelWeights(model.family, parts, model.report, {})


@pytest.mark.parametrize("name", ["model", "xl_model"])
def test_a_word_is_read_as_its_vectors(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The same vectors in rows of the table that other words have give the same states, pooled ones too."""
    model: ModelWeights = request.getfixturevalue(name)
    with_word = with_embeddings(model, read_embeddings([str(_write(tmp_path / "rex.safetensors", model, 2))]))
    ids = {word: model.family.load_tokenizer()(word).input_ids[1] for word in ("otter", "corgi")}
    rows = _in_rows(model, {0: ids["otter"], 1: ids["corgi"]}, 2)
    assert torch.equal(_states(with_word, "photo of a Rex, asleep"), _states(rows, "photo of a otter corgi, asleep"))
    assert torch.equal(_states(with_word, "photo of a t rexes"), _states(model, "photo of a t rexes"))
    assert with_word.digest() != model.digest()
    built = with_word.build(dtype=torch.float32)
    states = built.family.state_dicts(built.parts)
    assert all(torch.equal(states[part][key], tensor) for part in states for key, tensor in model.parts[part].items())


class _Loader:
    """What diffusers' loader of textual inversion asks of a pipeline."""

    def __init__(self, text_encoder: nn.Module) -> None:
        from diffusers.loaders.textual_inversion import TextualInversionLoaderMixin
        from transformers import CLIPTokenizer

        self._mixin: Any = type("Pipeline", (TextualInversionLoaderMixin,), {"components": {}, "hf_device_map": None})()
        self.encoder, self.tokenizer = text_encoder, CLIPTokenizer.from_pretrained(TOKENIZER_FOLDER, local_files_only=True)

    def load(self, file: str | Mapping[str, Tensor], token: str) -> None:
        self._mixin.load_textual_inversion(file, token=token, text_encoder=self.encoder, tokenizer=self.tokenizer)

    def ids(self, prompt: str) -> Tensor:
        text = self._mixin.maybe_convert_prompt(prompt, self.tokenizer)
        found: Tensor = self.tokenizer(text, padding="max_length", max_length=77, return_tensors="pt").input_ids
        return found


@pytest.mark.parametrize(("num", "word"), [(1, "<rex>"), (3, "sks")])
def test_diffusers_reads_a_file_as_we_do(num: int, word: str, model: ModelWeights, tmp_path: Path) -> None:
    path = _write(tmp_path / "rex.safetensors", model, num, word)
    prompt = f"photo of a {word} on the moon"
    expected = _states(with_embeddings(model, read_embeddings([str(path)])), prompt)
    components = model.build(dtype=torch.float32)
    loader = _Loader(components.parts["text_encoder"])
    loader.load(str(path), word)
    with torch.no_grad():
        found = model.family.encode_text(components.parts, loader.ids(prompt)).states_BLD.flatten()
    assert (found - expected).norm() < 1e-5 * expected.norm()
    assert (found - _states(model, prompt)).norm() > 0.01 * expected.norm()


def test_diffusers_reads_a_file_of_sdxl_as_we_do(xl_model: ModelWeights, tmp_path: Path) -> None:
    path = _write(tmp_path / "rex.safetensors", xl_model, 2, "<rex>")
    prompt = "photo of a <rex> on the moon"
    expected = _states(with_embeddings(xl_model, read_embeddings([str(path)])), prompt)
    components = xl_model.build(dtype=torch.float32)
    for part, key in (("text_encoder", "clip_l"), ("text_encoder_2", "clip_g")):
        loader = _Loader(components.parts[part])
        loader.load({"<rex>": load_file(path)[key]}, "<rex>")
    with torch.no_grad():
        text = xl_model.family.encode_text(components.parts, loader.ids(prompt))
    assert text.pooled_BD is not None
    found = torch.cat([text.states_BLD.flatten(), text.pooled_BD.flatten()])
    assert (found - expected).norm() < 1e-5 * expected.norm()


def _webui(vectors: Tensor, name: str) -> dict[str, Any]:
    return {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": name, "step": 99, "sd_checkpoint": None}


def _webui_old(vectors: Tensor, name: str) -> dict[str, Any]:
    parameters = nn.ParameterDict({"*": nn.Parameter(vectors)})
    return {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": parameters}


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("a.pt", lambda v: _webui(v, "fido"), "fido"),
        ("old.pt", lambda v: _webui_old(v, "fido"), "old"),
        ("learned_embeds.bin", lambda v: {"<cat-toy>": v}, "<cat-toy>"),
        ("learned_embeds.safetensors", lambda v: {"<cat-toy>": v}, "<cat-toy>"),
        ("b.safetensors", lambda v: {"emb_params": v}, "b"),
        ("learned_embeds.safetensors", lambda v: {"emb_params": v}, "toy"),
    ],
)
@pytest.mark.parametrize("num", [1, 2])
def test_every_form_is_read(name: str, content: Any, word: str, num: int, tmp_path: Path) -> None:
    path, vectors = tmp_path / "toy" / name, torch.randn(num, 5)
    path.parent.mkdir()
    plain = vectors[0] if num == 1 and "learned" in name else vectors
    (save_file if path.suffix == ".safetensors" else torch.save)(content(plain), path)
    assert is_embedding_file(path)
    read = read_embedding_file(path)
    assert (read.word, read.num_vectors) == (word, num)
    assert len(read.vectors) == 1 and torch.equal(read.vectors[0], vectors)
    assert [one.word for one in read_embeddings([f"{path}:sks", str(path)])] == ["sks", word]


def test_ours_hold_what_each_family_s_programs_read(model: ModelWeights, xl_model: ModelWeights, tmp_path: Path) -> None:
    for read, names in (
        (model, {"emb_params": "text_encoder"}),
        (xl_model, {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}),
    ):
        path, vectors = _write(tmp_path / "rex.safetensors", read, 3), _vectors(read, 3)
        found = load_file(path)
        assert found.keys() == names.keys()
        assert all(torch.equal(found[name], vectors[part]) for name, part in names.items())
        assert read_embedding_file(path).metadata["modelspec.architecture"] == f"{read.family.architecture}/textual-inversion"


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({"a": torch.ones(2, 3), "b": torch.ones(2, 3)}, "holds no vectors of a learned word; it holds a, b"),
        ({"clip_l": torch.ones(2, 3), "clip_g": torch.ones(1, 3)}, "holds no vectors of a learned word; it holds clip_"),
        ({"a": torch.ones(2, 3, 3)}, "holds no vectors of a learned word; it holds a"),
        ({"a": torch.ones(76, 3)}, "holds no vectors of a learned word; it holds a"),
        ({"emb_params": torch.full((2, 3), torch.nan)}, "holds vectors that are not finite"),
    ],
)
def test_other_files_are_refused(tensors: dict[str, Tensor], problem: str, tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match=problem):
        read_embeddings([str(tmp_path / "a.safetensors")])


def test_a_file_for_another_family_is_refused(model: ModelWeights, xl_model: ModelWeights, tmp_path: Path) -> None:
    file = NamedEmbedding(read_embedding_file(_write(tmp_path / "rex.safetensors", model, 1)), "rex")
    with pytest.raises(
        ModelFileError, match=r"its vectors have .* numbers, and the text encoders of this Stable Diffusion XL read"
    ):
        with_embeddings(xl_model, [file])


def test_mistakes_in_names_are_told_together(model: ModelWeights, tmp_path: Path) -> None:
    path = _write(tmp_path / "rex.safetensors", model, 1)
    with pytest.raises(SettingsError) as raised:
        read_embeddings([str(path), f"{path}:REX", f"{path}: ", "nothing.pt:dog"])
    assert raised.value.problems == (
        f"embedding is {path}:REX: another file already has the word 'REX'",
        f"embedding is {path}: : the word is empty",
        "embedding is nothing.pt:dog: no such file",
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
@pytest.mark.parametrize(("name", "num"), [("model", 1), ("model", 3), ("xl_model", 2)])
def test_a_converted_word_is_the_same_word(
    name: str, num: int, suffix: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source = read_embedding_file(_write(tmp_path / "rex.safetensors", request.getfixturevalue(name), num, "<rex>"))
    path = tmp_path / f"other{suffix}"
    convert_embedding(path, source, dtype=torch.float32)
    found = read_embedding_file(path)
    assert len(found.vectors) == len(source.vectors)
    assert all(torch.equal(one, other) for one, other in zip(found.vectors, source.vectors, strict=True))
    assert found.word == ("<rex>" if name == "model" or suffix == ".safetensors" else "other")  # clip_l and clip_g name none
    if suffix != ".safetensors":
        saved = torch.load(path, weights_only=True)
        keys = {"clip_l", "clip_g"} if name == "xl_model" else {"<rex>"} if suffix == ".bin" else {"string_to_param", "name"}
        assert keys <= saved.keys()
    with pytest.raises(ModelFileError, match=r"is written as \.safetensors, \.pt or \.bin, found '\.ckpt'"):
        convert_embedding(tmp_path / "other.ckpt", source, dtype=torch.float32)


def test_diffusers_reads_a_converted_word(model: ModelWeights, tmp_path: Path) -> None:
    source = read_embedding_file(_write(tmp_path / "rex.safetensors", model, 1, "<rex>"))
    states = []
    for path in (tmp_path / "rex.pt", tmp_path / "learned_embeds.bin"):
        convert_embedding(path, source, dtype=torch.float32)
        components = model.build(dtype=torch.float32)
        loader = _Loader(components.parts["text_encoder"])
        loader.load(str(path), "<rex>")
        with torch.no_grad():
            states.append(model.family.encode_text(components.parts, loader.ids("a <rex>")).states_BLD.flatten())
    expected = _states(with_embeddings(model, read_embeddings([str(tmp_path / "rex.safetensors")])), "a <rex>")
    assert all((found - expected).norm() < 1e-5 * expected.norm() for found in states)
