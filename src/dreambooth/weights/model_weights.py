"""A model as tensors under canonical names, with a report of how it was read."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from dreambooth.display import counted
from dreambooth.errors import ModelFileError
from dreambooth.families.components import Components
from dreambooth.families.family import Family
from dreambooth.families.mapped_pages import MappedPages
from dreambooth.families.shapes import StateDict
from dreambooth.reading import parse_json
from dreambooth.weights.learned_words import LearnedWord, digest_of_words, tokenizer_with, with_words

__all__ = ["ModelForm", "ModelWeights", "PartReport", "ReadingReport", "UNetWeights", "recorded_inputs", "sentence"]

ModelForm = Literal["single file", "diffusers folder", "run folder"]
UNetWeights = Literal["ema", "raw", "only"]

_UNET_WEIGHTS = {"ema": "the EMA weights", "raw": "the raw weights of the last step, not the EMA weights"}
_NAMED_TENSORS = 5  # in a warning; `inspect` names more
_SMALLEST, _LARGEST = 64, 2048  # sides of pictures that a person may ask for


@dataclass(frozen=True)
class PartReport:
    """One part of a model: UNet, VAE or text encoder."""

    title: str
    path: Path
    """The file (or the index of the files) it was read from."""
    num_parameters: int
    num_tensors: int
    dtypes: Mapping[str, int]
    """Maps a stored dtype, such as float16, to the number of tensors of that dtype."""

    @classmethod
    def of(cls, title: str, path: Path, tensors: StateDict) -> PartReport:
        """Count what is in a part."""
        dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values())
        num_parameters = sum(tensor.numel() for tensor in tensors.values())
        return cls(title, path, num_parameters, len(tensors), dict(dtypes.most_common()))


def sentence(note: str) -> str:
    """A note as a sentence of its own."""
    return f"{note[0].upper()}{note[1:]}."


@dataclass(frozen=True)
class ReadingReport:
    """What was found while reading a model; nothing is dropped silently."""

    source: Path
    form: ModelForm
    formats: tuple[str, ...]
    """Formats of the files read: pickle, safetensors."""
    title: str
    """Title of the family."""
    parts: tuple[PartReport, ...]
    unet_weights: UNetWeights
    """Which UNet weights were read: the moving average, the last weights, or the only ones."""
    also_there: str | None = None
    """UNet weights in the file that were not read, and how to read them."""
    neutralised: tuple[str, ...] = ()
    """Names in pickles that would have run code; replaced by placeholders."""
    leftover: tuple[str, ...] = ()
    """Names of tensors that belong to no part of the model and were not used."""
    bookkeeping: Mapping[str, str] = field(default_factory=dict)
    """Training metadata in the file, such as global_step."""
    notes: tuple[str, ...] = ()
    """Irregularities that were corrected while reading, one sentence each."""
    warnings: tuple[str, ...] = ()
    """What a person should know before using the model, whole sentences."""
    prediction: str = ""
    """A sentence that names what the model predicts and why; "" for a model without a file."""
    is_prediction_usual: bool = True
    """Whether the model predicts the noise and nothing needs to be said about it."""

    @property
    def minor_notes(self) -> tuple[str, ...]:
        """The notes that are no warnings too."""
        return tuple(note for note in self.notes if sentence(note) not in self.warnings)

    @property
    def all_warnings(self) -> tuple[str, ...]:
        """The warnings, and one that names the tensors left out."""
        if not self.leftover:
            return self.warnings
        some = ", ".join(self.leftover[:_NAMED_TENSORS]) + (", ..." if len(self.leftover) > _NAMED_TENSORS else "")
        tensors = counted(len(self.leftover), "tensor")
        return (*self.warnings, f"Skipped {tensors} outside all parts of the model ({some}).")

    @property
    def which_weights(self) -> str | None:
        """A sentence that says which of the UNet's two sets of weights was read; None when there is only one."""
        if self.unet_weights == "only":
            return None
        return f"UNet weights: {_UNET_WEIGHTS[self.unet_weights]}; the file also holds {self.also_there}."

    @property
    def choices(self) -> tuple[str, ...]:
        """Sentences on what was chosen while reading: the UNet's weights and the prediction, where there was a choice."""
        prediction = None if self.is_prediction_usual else self.prediction
        return tuple(text for text in (self.which_weights, prediction) if text is not None)


def recorded_inputs(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """The inputs of the run that made a model, name to digest, as its file says; empty where it does not."""
    try:
        inputs = parse_json(metadata.get("dreambooth.made_of", "{}"))
    except ValueError:
        return {}
    is_sound = isinstance(inputs, dict) and all(isinstance(value, str) for value in inputs.values())
    return inputs if is_sound else {}


@dataclass(frozen=True)
class ModelWeights:
    """A model as tensors under the module names of diffusers and transformers (text encoders without `text_model.`).

    Tensors of a file that was just read are views of the mapped file, in the number format they are stored in; they must
    not be written to.
    """

    family: Family
    parts: Mapping[str, StateDict]
    """The tensors of every part of the family, by its name."""
    report: ReadingReport
    metadata: Mapping[str, str]
    """Text metadata of the file."""
    words: tuple[LearnedWord, ...] = ()
    """Learned words beside the model; only a model in use has them, and no model file can hold them."""

    def made_for(self, side: int | None) -> ModelWeights:
        """The same model, whose pictures are `side` pixels wide; unchanged when there is no such number or it cannot be."""
        if side is None or not _SMALLEST <= side <= _LARGEST or side % max(8, self.family.downsampling):
            return self
        return replace(self, family=self.family.at_resolution(side))

    def build(self, *, dtype: torch.dtype, dtypes: Mapping[str, torch.dtype] | None = None) -> Components:
        """The modules with copies of these tensors in `dtype`, on the CPU. `dtypes` names the parts that are built in another.

        Raises ModelFileError when values are not finite, in the file or in `dtype`: such a model gives no picture.
        """
        if problems := self.not_finite():
            raise ModelFileError(problems, hint="The file is damaged: download it again, or use another model.")
        built = self.family.build(self.parts, dtype=dtype, dtypes=dtypes)
        components = Components(self.family, built, self.family.load_tokenizer())
        return with_words(components, self.words)

    @property
    def tokenizer(self) -> Any:
        """The family's tokenizer, with the learned words."""
        return tokenizer_with(self.family.load_tokenizer(), self.words)

    @property
    def num_steps(self) -> int | None:
        """Number of training steps of the model, if its file says so."""
        said = str(self.metadata.get("global_step", self.report.bookkeeping.get("global_step")))
        return int(said) if re.fullmatch(r"[0-9]{1,15}", said) else None

    def not_finite(self) -> list[str]:
        """A sentence when tensors hold values that are not finite; reads every tensor once."""
        pages, names = MappedPages(), list[str]()
        for part in self.family.parts:
            for name, tensor in self.parts[part].items():
                plain = tensor.detach().float() if tensor.dtype.itemsize == 1 else tensor.detach()  # float8 has no sums
                total = plain.sum(dtype=torch.float32)  # not finite when any value is not, and quicker than isfinite
                if not bool(total.isfinite()) and not bool(tensor.float().isfinite().all()):
                    names.append(f"{part}.{name}")
                pages.release(tensor)
        if not names:
            return []
        some = ", ".join(names[:_NAMED_TENSORS]) + (", ..." if len(names) > _NAMED_TENSORS else "")
        return [f"{self.report.source}: {counted(len(names), 'tensor')} with values that are not finite ({some})"]

    def digest(self) -> str:
        """SHA-256 of the names, dtypes, shapes and bytes of all tensors, the prediction and the learned words, in hex."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256()
        if self.family.prediction != "epsilon":  # the same tensors make other images
            digest.update(f"{self.family.prediction} {self.family.has_zero_terminal_snr}\n".encode())
        pages = MappedPages()
        for part in self.family.parts:
            tensors = self.parts[part]
            for name in sorted(tensors):
                tensor = tensors[name].detach()
                digest.update(f"{part}.{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                if tensor.numel():
                    digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
                pages.release(tensor)
        if self.words:  # the same tensors read the same prompt in another way
            digest.update(digest_of_words(self.words))
        return digest.hexdigest()
