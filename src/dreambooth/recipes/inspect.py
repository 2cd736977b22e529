"""`dreambooth inspect`: the contents of a model file, and how the tokenizer splits a word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dreambooth.display import Display, counted
from dreambooth.errors import SettingsError
from dreambooth.families.tokens import TokenDescription, describe_token
from dreambooth.files import expanded
from dreambooth.reading import printable
from dreambooth.schema.verbs import InspectSettings

if TYPE_CHECKING:
    from dreambooth.weights.embedding_file import EmbeddingFile
    from dreambooth.weights.lora_describe import LoraDescription
    from dreambooth.weights.model_weights import ModelWeights, ReadingReport

__all__ = ["InspectResult", "inspect_model"]

_UNET_WEIGHTS = {
    "ema": "the EMA weights (--weights ema)",
    "raw": "the raw weights of the last training step (--weights raw)",
    "only": "the only set in the file",
}
_MOST_NAMES = 40  # ignored tensors that are printed; the result holds all
_RUN_PROGRAMS = ("os.", "posix.", "nt.", "subprocess.", "sys.", "shutil.", "socket.", "runpy.", "importlib.", "webbrowser.")
_RUN_CODE = ("eval", "exec", "compile", "open", "__import__")  # getattr is in many honest pickles


@dataclass(frozen=True)
class InspectResult:
    """How the model was read, or what the LoRA or the file of a learned word holds; and a description of each given word."""

    report: ReadingReport | None
    tokens: tuple[TokenDescription, ...]
    lora: LoraDescription | None = None
    embedding: EmbeddingFile | None = None


def inspect_model(settings: InspectSettings, display: Display) -> InspectResult:
    """Show the contents of a model, a LoRA or the file of a learned word, and how the tokenizer splits words.

    Raises ModelFileError when it is none of these, and SettingsError for options of a model that have no effect for the others.
    """
    report, lora, embedding = None, None, None
    if settings.model is not None and (lora := _described_lora(settings)) is not None:
        _show_lora(lora, display)
    elif settings.model is not None and (embedding := _read_embedding(settings)) is not None:
        _show_embedding(embedding, display)
    elif settings.model is not None:
        from dreambooth.weights.read import read_model  # loads torch, which inspecting a word does not need

        read = read_model(
            settings.model,
            config=settings.config,
            weights=settings.weights,
            vae=settings.vae,
            prediction=settings.prediction,
            zero_terminal_snr=settings.zero_terminal_snr,
        )
        report = read.report
        _show_model(read, display)
    tokens = tuple(describe_token(word) for word in settings.token)
    _show_tokens(tokens, display)
    return InspectResult(report, tokens, lora, embedding)


def _described_lora(settings: InspectSettings) -> LoraDescription | None:
    from dreambooth.weights.lora_describe import describe_lora  # loads torch, as above
    from dreambooth.weights.lora_file import is_lora_file, read_lora_file
    from dreambooth.weights.read import adapter_at

    named = expanded(Path(str(settings.model)))
    path = named if is_lora_file(named) else adapter_at(named)
    if path is None:
        return None
    _refuse_options_of_models(settings, "a LoRA")
    return describe_lora(read_lora_file(path))


def _read_embedding(settings: InspectSettings) -> EmbeddingFile | None:
    from dreambooth.weights.embedding_file import read_embedding_file  # loads torch, as above
    from dreambooth.weights.read import embedding_at

    path = embedding_at(expanded(Path(str(settings.model))))
    if path is None:
        return None
    _refuse_options_of_models(settings, "the file of a learned word")
    return read_embedding_file(path)


def _refuse_options_of_models(settings: InspectSettings, what: str) -> None:
    if useless := settings.is_changed("weights", "config", "vae"):
        raise SettingsError(f"{settings.model} is {what}, so {', '.join(useless)} would have no effect; omit them")


def _show_embedding(embedding: EmbeddingFile, display: Display) -> None:
    word, size = printable(embedding.word), embedding.path.stat().st_size / 1e3
    what = f"the learned word '{word}', {counted(embedding.num_vectors, 'vector')}"
    display.say(f"{embedding.path}: {what} for {embedding.made_for or 'an unknown model'}, {size:.1f} kB")
    rows = [
        (title, str(vectors_NW.shape[1]), ", ".join(f"{norm:.4g}" for norm in vectors_NW.norm(dim=1).tolist()))
        for title, vectors_NW in zip(("first", "second"), embedding.vectors, strict=False)
    ]
    display.table("Vectors", ("text encoder", "numbers in each", "norms"), rows)
    _show_values("Metadata", embedding.metadata.items(), display)


def _show_lora(lora: LoraDescription, display: Display) -> None:
    size = f"{lora.path.stat().st_size / 1e6:.1f} MB, {', '.join(lora.dtypes)}"
    display.say(f"{lora.path}: {' + '.join(lora.kinds)} for {lora.made_for or 'an unknown model'}, {lora.form} names, {size}")
    rows = [
        (
            part.title,
            str(part.num_layers),
            ", ".join(map(str, part.ranks)) or "-",
            ", ".join(f"{alpha:g}" for alpha in part.alphas) or "-",
            f"{part.num_parameters:,}",
            f"{part.norm:.4g}",
        )
        for part in lora.parts
    ]
    display.table("Changes", ("part", "layers", "rank", "alpha", "parameters", "norm at strength 1"), rows)
    display.say(f"Words for prompts: {', '.join(lora.triggers) or 'the file names none'}")
    if lora.embeddings:
        display.say(f"Learned words beside the changes, which generate --lora reads in prompts: {', '.join(lora.embeddings)}")
    _show_own_word(lora.path, lora.metadata, display)
    _show_values("Metadata", lora.metadata.items(), display)


def _show_own_word(model: Path, metadata: Mapping[str, str], display: Display) -> None:
    """The word that a LoRA was trained together with, and whether its file was found."""
    from dreambooth.weights.embedding_file import WORD  # loads torch, as above
    from dreambooth.weights.own_word import own_word

    if (named := metadata.get(WORD)) is not None:
        word = own_word(model, metadata)
        where = "its file is not beside the LoRA" if word is None else str(word.file.path)
        display.say(f"Learned word, which belongs to the LoRA: '{printable(named)}': {where}")


def _show_model(read: ModelWeights, display: Display) -> None:
    report = read.report
    size = f", {report.source.stat().st_size / 1e9:.2f} GB" if report.source.is_file() else ""
    display.say(f"{report.source}: {report.title}, {report.form} ({', '.join(report.formats)}{size})")
    rows = [
        (part.title, f"{part.num_parameters:,}", str(part.num_tensors), ", ".join(part.dtypes), "-".join(map(str, spec.widths)))
        for part, spec in zip(report.parts, read.family.parts.values(), strict=True)
    ]
    display.table("Parts", ("part", "parameters", "tensors", "precision", "widths"), rows)
    also_there = "" if report.also_there is None else f"; the file also holds {report.also_there}"
    display.say(f"UNet weights: {_UNET_WEIGHTS[report.unet_weights]}{also_there}.")
    display.say(report.prediction)
    for warning in report.warnings:
        display.warn(warning)
    for note in report.minor_notes:
        display.say(f"Note: {note}.")
    _show_values("Written by the training program", report.bookkeeping.items(), display)
    for word in read.words:
        display.say(
            f"Learned word, which belongs to the model: '{printable(word.word)}', {counted(word.num_vectors, 'vector')}"
        )
    _show_values("Metadata", read.metadata.items(), display)
    _show_neutralised(report.neutralised, display)
    if report.leftover:
        names = ", ".join(report.leftover[:_MOST_NAMES])
        more = f", and {len(report.leftover) - _MOST_NAMES} more" if len(report.leftover) > _MOST_NAMES else ""
        display.say(f"Ignored {counted(len(report.leftover), 'tensor')} not part of the model: {names}{more}")


def _show_values(title: str, items: Iterable[tuple[str, str]], display: Display) -> None:
    shown = [f"{printable(name)} {printable(value)}" for name, value in items]
    if shown:
        display.say(f"{title}: {', '.join(shown)}")


def _show_neutralised(names: Sequence[str], display: Display) -> None:
    harmful = [name for name in names if _runs_something(name)]
    if harmful:
        display.warn(
            f"this pickle would run code when loaded the usual way: {', '.join(harmful)}. Nothing was run here; "
            "do not open the file with another program, and do not trust its source."
        )
    if rest := [name for name in names if name not in harmful]:
        display.say(f"Python objects in the pickle that were not created: {', '.join(rest)}")


def _runs_something(name: str) -> bool:
    module, _, function = name.rpartition(".")
    return name.startswith(_RUN_PROGRAMS) or (module == "builtins" and function in _RUN_CODE)


def _show_tokens(tokens: Sequence[TokenDescription], display: Display) -> None:
    if not tokens:
        return
    rows = [(token.word, " ".join(token.pieces), ", ".join(map(str, token.ids)) or "none") for token in tokens]
    display.table("Words", ("word", "tokens", "ids"), rows)
    for token in tokens:
        for warning in token.warnings:
            display.warn(warning)
        if not token.warnings:
            display.say(f"'{token.word}' is a single rare token.")
    if any(token.warnings for token in tokens):
        display.say("`dreambooth tokens` suggests words without these problems.")
