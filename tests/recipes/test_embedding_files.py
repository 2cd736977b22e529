"""Files of learned words in use: images with them, and what a person reads about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dreambooth.diffusion.low_rank import Change, LowRank
from dreambooth.display_console import ConsoleDisplay
from dreambooth.errors import SettingsError
from dreambooth.evaluation.blended import model_with_files
from dreambooth.recipes.generate import generate
from dreambooth.recipes.inspect import inspect_model
from dreambooth.sampling.settings import SampleSettings
from dreambooth.schema.verbs import GenerateSettings, InspectSettings
from dreambooth.weights.lora_write import Adapter, write_lora
from dreambooth.weights.read import read_model
from dreambooth.weights.settings import BaseModelSettings, EmbeddingSettings, LoraSettings, StrengthSettings

Said = Callable[[], str]


@pytest.fixture(scope="module")
def file(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("word") / "rex.safetensors"
    width = read_model(str(small_model)).parts["text_encoder"]["embeddings.token_embedding.weight"].shape[1]
    save_file({"emb_params": torch.randn(3, width, generator=torch.Generator().manual_seed(0))}, path)
    return path


def test_images_with_a_word_are_others_only_where_a_prompt_says_it(
    small_model: Path, file: Path, tmp_path: Path, display: ConsoleDisplay, said: Said
) -> None:
    images: dict[str, list[bytes]] = {}
    for name, embedding in (("with", (f"{file}:sks", str(file))), ("without", ())):
        sample = SampleSettings(
            prompt=("a sks", "a dog"), num_images=1, sampling_steps=2, device="cpu", output=tmp_path / name, grid=False
        )
        settings = GenerateSettings(
            base=BaseModelSettings(model=str(small_model)), sample=sample, embeddings=EmbeddingSettings(embedding=embedding)
        )
        images[name] = [path.read_bytes() for path in generate(settings, display).files]
    assert images["with"][0] != images["without"][0]
    text = said()
    assert "Learned word 'sks': 3 vectors" in text and "Learned word 'rex': 3 vectors" in text
    assert "no prompt says the learned word 'rex', so its file has no effect" in text
    assert "the learned word 'sks', so" not in text


def test_inspect_says_whose_word_it_is(file: Path, display: ConsoleDisplay, said: Said) -> None:
    found = inspect_model(InspectSettings(model=str(file)), display)
    assert found.embedding is not None and found.report is None
    norms = ", ".join(f"{norm:.4g}" for norm in found.embedding.vectors[0].norm(dim=1).tolist())
    text = said()
    assert f"{file}: the learned word 'rex', 3 vectors for an unknown model, 0." in text
    assert norms in text
    save_file({"clip_l": torch.ones(2, 768), "clip_g": torch.ones(2, 1280)}, file.parent / "xl.safetensors")
    inspect_model(InspectSettings(model=str(file.parent / "xl.safetensors")), display)
    assert "the learned word 'xl', 2 vectors for Stable Diffusion XL" in said()
    with pytest.raises(SettingsError, match="is the file of a learned word, so weights would have no effect; omit them"):
        inspect_model(InspectSettings(model=str(file), weights="raw"), display)


def test_words_beside_a_lora_are_read_with_it(small_model: Path, tmp_path: Path, display: ConsoleDisplay, said: Said) -> None:
    model = read_model(str(small_model))
    width = model.parts["text_encoder"]["embeddings.token_embedding.weight"].shape[1]
    change, vectors = Change(LowRank(torch.ones(1, width), torch.ones(width, 1), 1.0)), torch.ones(2, width)
    adapter = Adapter(model.family, {"text_encoder": {"encoder.layers.0.self_attn.q_proj": change}}, "kohya")
    write_lora(tmp_path / "plain.safetensors", adapter, dtype=torch.float32, metadata={})
    words = {"bundle_emb.fido.string_to_param.*": vectors}
    save_file({**load_file(tmp_path / "plain.safetensors"), **words}, tmp_path / "both.safetensors")
    used = {
        name: model_with_files(
            BaseModelSettings(model=str(small_model)),
            StrengthSettings(),
            LoraSettings(lora=(f"{tmp_path / 'both.safetensors'}:{name}",)),
            EmbeddingSettings(),
        )
        for name in ("0.5", "0")
    }
    assert [(word.word, word.num_vectors) for word in used["0.5"].words] == [("fido", 2)]
    assert torch.equal(used["0.5"].words[0].vectors["text_encoder"], vectors)
    assert used["0"].words == ()
    inspect_model(InspectSettings(model=str(tmp_path / "both.safetensors")), display)
    assert "Learned words beside the changes, which generate --lora reads in prompts: fido" in said()
