"""From the parts of a model, as mapped from files, to a checked model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dreambooth.display import counted
from dreambooth.errors import ModelFileError
from dreambooth.families.clip_tokenizer import NUM_TOKENS
from dreambooth.families.family import Family, PartDescription
from dreambooth.families.prediction_choice import AskedPrediction, ChosenPrediction, choose_prediction, prediction_text
from dreambooth.families.prediction_probe import probe_prediction
from dreambooth.families.prediction_signs import PredictionSign
from dreambooth.families.recognition import recognise
from dreambooth.families.shapes import StateDict, shapes_of
from dreambooth.reading import printable
from dreambooth.weights.key_map import MappedPart, check_parts
from dreambooth.weights.model_weights import ModelForm, ModelWeights, PartReport, ReadingReport, UNetWeights
from dreambooth.weights.quantized import quantization_problems
from dreambooth.weights.settings import WeightsChoice

__all__ = ["FoundModel", "Reading", "assemble"]

_TOKEN_TABLE = "embeddings.token_embedding.weight"


@dataclass(frozen=True)
class FoundModel:
    """A model whose tensors have their canonical names and are not checked yet."""

    source: Path
    form: ModelForm
    formats: tuple[str, ...]
    parts: Mapping[str, MappedPart]
    unet_weights: UNetWeights
    also_there: str | None = None
    neutralised: tuple[str, ...] = ()
    leftover: tuple[str, ...] = ()
    bookkeeping: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    signs: tuple[PredictionSign, ...] = ()
    """Where the model states its prediction."""


@dataclass(frozen=True)
class Reading:
    """How a model is to be read, whatever its form."""

    weights: WeightsChoice = "auto"
    vae: MappedPart | None = None
    """Another VAE to use."""
    signs: tuple[PredictionSign, ...] = ()
    """Where something beside the model, such as a YAML, states its prediction."""
    asked: AskedPrediction = field(default_factory=AskedPrediction)


def assemble(found: FoundModel, how: Reading, *, hint: str) -> ModelWeights:
    """Recognize the family, check every tensor against its blueprint and report the rest.

    Raises ModelFileError when the weights are quantized, when the family is another one, when the prediction cannot be used or
    told, or with all missing and wrongly shaped tensors; `hint` is then the way out.
    """
    _refuse_quantized(found)
    with _naming(found.source):
        family = recognise({name: shapes_of(part.tensors) for name, part in found.parts.items()})
        chosen = choose_prediction([*how.signs, *found.signs], how.asked)
    checked = {name: (found.parts[name], part.blueprint) for name, part in family.parts.items()}
    check_parts(list(checked.values()), hint=hint)
    parts = {
        name: {key: part.tensors[key] for key in (*blueprint, *_unused(part, family.parts[name]))}
        for name, (part, blueprint) in checked.items()
    }
    beyond = [part.names[key] for name, (part, _) in checked.items() for key in part.tensors if key not in parts[name]]
    beyond += [part.names[key] for name, part in found.parts.items() if name not in family.parts for key in part.tensors]
    not_mapped = [key for part in found.parts.values() for key in part.leftover]
    chosen = chosen or _unstated_prediction(family, parts[family.denoiser], found.source)
    family = family.with_prediction(chosen.prediction, has_zero_terminal_snr=chosen.has_zero_terminal_snr)
    report = ReadingReport(
        source=found.source,
        form=found.form,
        formats=found.formats,
        title=family.title,
        parts=tuple(PartReport.of(part.title, part.path, parts[name]) for name, (part, _) in checked.items()),
        unet_weights=found.unet_weights,
        also_there=found.also_there,
        neutralised=found.neutralised,
        leftover=tuple(sorted(map(printable, {*found.leftover, *beyond, *not_mapped}))),
        bookkeeping=found.bookkeeping,
        notes=found.notes,
        warnings=(*found.warnings, *_vocabulary_warnings(family)),
        prediction=prediction_text(chosen),
        is_prediction_usual=chosen.prediction == "epsilon" == family.usual_prediction and how.asked == AskedPrediction(),
    )
    return ModelWeights(family, parts, report, found.metadata)


@contextmanager
def _naming(source: Path) -> Iterator[None]:
    """Problems of a model are told with its path."""
    try:
        yield
    except ModelFileError as error:
        raise ModelFileError([f"{source}: {problem}" for problem in error.problems], hint=error.hint) from error


def _unstated_prediction(family: Family, denoiser: StateDict, source: Path) -> ChosenPrediction:
    """The usual prediction of the family, or the one that the weights show."""
    if family.usual_prediction is not None:
        return ChosenPrediction(family.usual_prediction, False, f"usual for {family.title}, and nothing states otherwise")
    probe = probe_prediction(family, denoiser)
    if probe.prediction is None:
        raise ModelFileError(
            f"{source}: nothing states what this model predicts, and its weights do not show it: {probe.text}",
            hint="Say it with --prediction epsilon (models for 512 pixels) or --prediction velocity (768 pixels).",
        )
    return ChosenPrediction(probe.prediction, False, f"nothing states it, and its weights show it: {probe.text}")


def _unused(part: MappedPart, description: PartDescription) -> list[str]:
    """Names of the tensors that are kept only to be written again; those of another shape are not the family's."""
    return [key for key, shape in description.unused.items() if key in part.tensors and tuple(part.tensors[key].shape) == shape]


def _vocabulary_warnings(family: Family) -> list[str]:
    """A sentence for each text encoder that knows more words than the tokenizer of its family."""
    rows = {family.parts[name].title: family.parts[name].blueprint[_TOKEN_TABLE][0] for name in family.text_encoders}
    return [
        f"The {title} has {counted(num_rows - NUM_TOKENS, 'token')} more than CLIP's tokenizer: words that another program "
        "added, which no prompt can say here. They are kept and not used."
        for title, num_rows in rows.items()
        if num_rows > NUM_TOKENS
    ]


def _refuse_quantized(found: FoundModel) -> None:
    dtypes = {part.names[key]: tensor.dtype for part in found.parts.values() for key, tensor in part.tensors.items()}
    others = [*found.leftover, *(name for part in found.parts.values() for name in part.leftover)]
    if problems := quantization_problems(dtypes, others):
        raise ModelFileError(
            [f"{found.source}: a quantized model, which cannot be used: {problem}" for problem in problems],
            hint="Give the model in float32, float16, bfloat16 or plain float8; quantized files are made from one of these.",
        )
