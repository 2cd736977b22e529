"""Reading a base model in any of its common formats."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from dreambooth.config import read_yaml
from dreambooth.display import quoted
from dreambooth.errors import ModelFileError
from dreambooth.families.prediction_choice import AskedPrediction
from dreambooth.families.prediction_signs import prediction_signs
from dreambooth.families.recognition import SUPPORTED
from dreambooth.files import expanded
from dreambooth.toybox.files import EMBEDDED_MODEL, EMBEDDED_MODEL_FILE
from dreambooth.weights.assemble import Reading
from dreambooth.weights.diffusers_folder import is_diffusers_folder, read_diffusers_folder
from dreambooth.weights.embedding_apply import NamedEmbedding, with_embeddings
from dreambooth.weights.embedding_file import is_embedding_file, read_embedding_file
from dreambooth.weights.lora_apply import ScaledLora, with_loras
from dreambooth.weights.lora_choice import read_loras
from dreambooth.weights.lora_file import is_lora_file, read_lora_file
from dreambooth.weights.model_weights import ModelWeights
from dreambooth.weights.original_config import check_original_config, config_entries
from dreambooth.weights.other_folders import in_hub_cache, is_training_checkpoint, refuse_other_folder
from dreambooth.weights.own_word import own_word, with_own_word
from dreambooth.weights.settings import BaseModelSettings, PredictionChoice, TrainedFromSettings, WeightsChoice
from dreambooth.weights.single_file import read_single_file
from dreambooth.weights.vae_file import read_vae

__all__ = ["adapter_at", "embedding_at", "is_embedded", "may_be_hub_id", "model_name", "read_base", "read_model"]

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # owner/name
_FILE_SUFFIXES = (".ckpt", ".safetensors", ".bin", ".pt")
_SAID_OF_A_RUN = ("global_step", "epoch", "dreambooth.", "modelspec.title", "modelspec.trigger", "modelspec.resolution")
_A_LORA = ("a LoRA: small changes to a model", "--lora", "applies the LoRA")
_A_WORD = ("a learned word: vectors beside a model", "--embedding", "reads the word")
_RUN_MODELS = ("model.safetensors", "checkpoints/last.ckpt", "ckpts/last.ckpt")  # in each layout of a run's files


def is_embedded(model: str) -> bool:
    """Whether `model` names the bundled model; a file of that name is reached as ./toybox."""
    return model == EMBEDDED_MODEL


def may_be_hub_id(name: str) -> bool:
    """Whether a name that is no path here has the form of a hub id and not of a file, and its owner is no folder here."""
    path = expanded(Path(name))
    return _HUB_ID.fullmatch(name) is not None and path.suffix not in _FILE_SUFFIXES and not path.parent.exists()


def model_name(path: Path) -> str:
    """What `--model` must be told to read `path`, also where its bare name would mean the bundled model."""
    return f"./{path}" if is_embedded(str(path)) else str(path)


def read_base(base: BaseModelSettings) -> ModelWeights:
    """Read a model as its settings say, with their LoRA files; see `read_model`, `read_loras` and `with_loras`."""
    loras = read_loras(base.lora) if isinstance(base, TrainedFromSettings) else []
    read = read_model(
        base.model,
        config=base.config,
        weights=base.weights,
        vae=base.vae,
        prediction=base.prediction,
        zero_terminal_snr=base.zero_terminal_snr,
    )
    return with_loras(read, loras)


def read_model(
    model: str,
    *,
    config: Path | None = None,
    weights: WeightsChoice = "auto",
    vae: Path | None = None,
    prediction: PredictionChoice = "auto",
    zero_terminal_snr: bool | None = None,
) -> ModelWeights:
    """Read a model: a .ckpt or .safetensors file, a diffusers folder, a run folder, `toybox` for the bundled one,
    or a hub id if no such path exists.

    `config` is the model's YAML in the original configuration language, which must agree with the tensors. `weights`
    chooses between the running average and the last weights of the UNet where both are there; "auto" takes the average
    unless it belongs to another model. `vae` is the path of a VAE that is used instead of the model's own. `prediction` and
    `zero_terminal_snr` prevail over what the files state about them. The tensors stay in the mapped file until they are used.

    Raises ModelFileError that says what was found instead, or lists every missing or wrongly shaped tensor.
    """
    path = EMBEDDED_MODEL_FILE if is_embedded(model) else expanded(Path(model))
    if is_embedded(model) and not path.exists():
        raise ModelFileError(f"{path}: the bundled model (toybox) is missing", hint="Reinstall the package.")
    if not path.exists():
        if not may_be_hub_id(model):
            hint = (
                "Give a .ckpt or .safetensors file, a diffusers folder, a run folder, a hub id such as owner/name, or toybox."
            )
            raise ModelFileError(f"{model}: no such file or folder", hint=hint)
        from dreambooth.weights.hub import fetch  # loads huggingface_hub, which nothing else here needs

        path = fetch(model)
    if (adapter := adapter_at(path) or embedding_at(path)) is not None:
        return _read_with_adapter(
            adapter, path, weights=weights, vae=vae, prediction=prediction, zero_terminal_snr=zero_terminal_snr
        )
    how = Reading(
        weights=weights,
        vae=None if vae is None else read_vae(vae),
        signs=() if config is None else prediction_signs(original_config=config_entries(config)),
        asked=AskedPrediction.of(prediction, zero_terminal_snr),
    )
    read = _read_folder(in_hub_cache(path), how) if path.is_dir() else with_own_word(read_single_file(path, how), path)
    if config is not None:
        check_original_config(config, read.family)
    return read


def _read_folder(folder: Path, how: Reading) -> ModelWeights:
    is_run = (folder / "config.yaml").is_file()
    models = [folder / name for name in _RUN_MODELS if (folder / name).is_file()]
    if is_run and models:
        read = with_own_word(read_single_file(models[0], how), models[0])
        read = read.made_for(_training_size(folder)) if models[0].suffix == ".ckpt" else read
        return replace(read, report=replace(read.report, source=folder, form="run folder"))
    if is_diffusers_folder(folder) and not is_training_checkpoint(folder):
        return with_own_word(read_diffusers_folder(folder, how), folder)
    if is_run and ((folder / "checkpoints").is_dir() or (folder / "status.json").is_file()):
        raise ModelFileError(
            f"{folder}: this run has not written its final model yet",
            hint=f"Finish it (dreambooth train --resume {quoted(folder)}) or give one of the model files in it.",
        )
    refuse_other_folder(folder)
    inside = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
    raise ModelFileError(
        f"{folder}: not a model folder: expected unet, vae and text_encoder, or a run's config.yaml and model.safetensors; "
        f"found {inside}",
        hint="Give the model file itself, or the folder that contains these.",
    )


def adapter_at(path: Path) -> Path | None:
    """The LoRA file that a path means: the file itself, or the last one of a run folder."""
    file = _file_at(path)
    return file if file.is_file() and is_lora_file(file) else None


def embedding_at(path: Path) -> Path | None:
    """The file of a learned word that a path means: the file itself, or the last one of a run folder."""
    file = _file_at(path)
    return file if is_embedding_file(file) else None


def _file_at(path: Path) -> Path:
    return path / _RUN_MODELS[0] if path.is_dir() and (path / "config.yaml").is_file() else path


def _read_with_adapter(
    adapter: Path,
    path: Path,
    *,
    weights: WeightsChoice,
    vae: Path | None,
    prediction: PredictionChoice,
    zero_terminal_snr: bool | None,
) -> ModelWeights:
    """The base model of the run that wrote a LoRA file or the file of a learned word, with the file applied.

    Raises ModelFileError if the file belongs to no run, or if the run's base model is no longer where it was.
    """
    is_lora = adapter_at(adapter) is not None
    what, flag, uses = _A_LORA if is_lora else _A_WORD
    run = next((folder for folder in adapter.parents[:2] if (folder / "config.yaml").is_file()), None)
    if run is None:
        raise ModelFileError(
            f"{path}: this is {what}, not a model",
            hint=f"{SUPPORTED} With one of these, generate {flag} {quoted(path)} {uses}.",
        )
    base = read_yaml(run / "config.yaml").get("base", {})
    try:
        read = read_model(
            base["model"],
            config=None if base.get("config") is None else Path(base["config"]),
            weights=base.get("weights", weights) if weights == "auto" else weights,
            vae=vae or (None if base.get("vae") is None else Path(base["vae"])),
            prediction=base.get("prediction", prediction) if prediction == "auto" else prediction,
            zero_terminal_snr=base.get("zero_terminal_snr") if zero_terminal_snr is None else zero_terminal_snr,
        )
    except ModelFileError as error:
        hint = f"{path} is {what.partition(':')[0]} of this model. If the model has moved: --model MODEL {flag} {quoted(path)}"
        raise ModelFileError(error.problems, hint=hint) from error
    beside = read_loras(base.get("lora") or ())
    if is_lora:
        lora = read_lora_file(adapter)
        word = own_word(adapter, lora.metadata)
        applied, metadata = with_loras(read, [*beside, ScaledLora(lora)]), lora.metadata
        applied = with_embeddings(applied, [] if word is None else [word])
    else:
        file = read_embedding_file(adapter)
        applied, metadata = with_embeddings(with_loras(read, beside), [NamedEmbedding(file, file.word)]), file.metadata
    said = {key: text for key, text in metadata.items() if key.startswith(_SAID_OF_A_RUN)}
    report = replace(read.report, source=path, form="run folder")
    return replace(applied, metadata={**read.metadata, **said}, report=report).made_for(_training_size(run))


def _training_size(run: Path) -> int | None:
    """The image size that a run was trained with, which its .ckpt does not record."""
    views = read_yaml(run / "config.yaml").get("views")
    size = views.get("resolution") if isinstance(views, dict) else None
    return size if isinstance(size, int) else None
