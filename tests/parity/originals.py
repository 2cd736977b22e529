"""What the original programs recorded over two miniatures, and these models as this program reads them.

See tests/golden/original/README.md.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreambooth.diffusion.conditioning import Conditioning
from dreambooth.families.components import Components
from dreambooth.weights.key_map import restore_names
from dreambooth.weights.read import read_model

FOLDER = Path(__file__).parents[1] / "golden" / "original"


def relative(found: Tensor, recorded: Tensor) -> float:
    """The L2 norm of the difference over that of the recorded numbers."""
    assert found.shape == recorded.shape
    return float((found.double() - recorded.double()).norm() / recorded.double().norm())


@dataclass(frozen=True)
class Recorded:
    """One recording. Large tensors are there by every so many-th element."""

    model: str
    tensors: Mapping[str, Tensor]
    every_nth: Mapping[str, int]
    trained_names: Mapping[str, str]
    prompts: tuple[str, ...]
    wrong_answers: Mapping[str, float]

    @staticmethod
    def load(model: str) -> Recorded:
        """Of "v1b" or "xl"."""
        path = FOLDER / f"{model}.safetensors"
        with safe_open(path, "pt") as file:
            metadata = {name: json.loads(text) for name, text in file.metadata().items()}
        prompts = tuple(metadata.pop("prompts"))
        return Recorded(model=model, tensors=load_file(path), prompts=prompts, **metadata)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def error(self, name: str, found: Tensor) -> float:
        """How far a tensor is from the recorded one."""
        step = self.every_nth.get(name)
        return relative(found if step is None else found.flatten()[::step], self[name])

    @contextmanager
    def sinusoids(self) -> Iterator[None]:
        """Inside, diffusers takes the sinusoids of timesteps and sizes from the recording.

        The originals compute them in float32, where processors differ in the last bit. That moves predictions by 1e-6 and more,
        which would hide everything smaller.
        """
        from diffusers.models import embeddings

        def looked_up(timesteps: Tensor, embedding_dim: int, **choices: object) -> Tensor:
            known = self[f"sinusoids_{embedding_dim}_at"]
            places = torch.searchsorted(known, timesteps.long().contiguous())
            assert torch.equal(known[places].double(), timesteps.double())
            return self[f"sinusoids_{embedding_dim}"][places]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(embeddings, "get_timestep_embedding", looked_up)
            yield

    def sizes(self) -> Tensor:
        """Original size, crop and target size of every prompt, (5, 6)."""
        return torch.cat([self[name] for name in ("original_size", "crop_top_left", "target_size")], dim=1).float()


def rebuild(model: str) -> dict[str, Tensor]:
    """The tensors of the file."""
    specification = importlib.util.spec_from_file_location("originals_rebuild", FOLDER / "rebuild.py")
    assert specification is not None and specification.loader is not None
    module: Any = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    tensors: dict[str, Tensor] = module.rebuild_state_dict(model)
    return tensors


def write(model: str, folder: Path) -> Path:
    """The file in the form that the original program reads."""
    if model == "xl":
        save_file(rebuild(model), folder / "xl.safetensors")
        return folder / "xl.safetensors"
    torch.save({"state_dict": rebuild(model)}, folder / "v1b.ckpt")
    return folder / "v1b.ckpt"


def build(path: Path, dtype: torch.dtype) -> Components:
    return read_model(str(path)).build(dtype=dtype)


def dtype_of(model: Components) -> torch.dtype:
    return next(model.denoiser.parameters()).dtype


@torch.no_grad()
def encoded(model: Components, recorded: Recorded, sizes: Tensor | None = None) -> Conditioning:
    """The conditioning of all prompts, with the recorded sizes or others."""
    text = model.family.encode_text(model.parts, model.family.tokenize(model.tokenizer, recorded.prompts))
    if not model.family.takes_sizes:
        return text
    return text.with_sizes(recorded.sizes() if sizes is None else sizes)


@torch.no_grad()
def predicted(model: Components, recorded: Recorded, text: Conditioning, *, x_t: str = "z_t", t: str = "t") -> Tensor:
    """The denoiser's answer to a recorded x_t, to the first rows of `text`."""
    x = recorded[x_t].to(dtype_of(model))
    return model.family.predict(model.denoiser, x, recorded[t][: len(x)], text.index(slice(0, len(x))))


def under_original_names(model: Components, value_of: Callable[[str, str, Tensor], Tensor]) -> dict[str, Tensor]:
    """A number for each weight, under the names of the file. `value_of` takes the part, the module's name and the weight."""
    found: dict[str, Tensor] = {}
    for part, module in model.parts.items():
        of_module = {id(weight): name for name, weight in module.named_parameters()}
        values = {}
        for name, weight in _weights_by_canonical_name(model, part).items():
            values[name] = value_of(part, of_module[id(weight)], weight)
        found |= restore_names(values, model.family.parts[part].keys)
    return found


def _weights_by_canonical_name(model: Components, part: str) -> dict[str, Tensor]:
    module = model.parts[part]
    by_storage = {weight.data_ptr(): weight for weight in module.parameters()}
    states = model.family.state_dicts({part: module})[part]
    return {name: by_storage[tensor.data_ptr()] for name, tensor in states.items() if tensor.data_ptr() in by_storage}
