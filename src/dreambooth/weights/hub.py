"""Models of the Hugging Face hub; the only module that uses the network, and only for a hub id."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from dreambooth.display import counted
from dreambooth.errors import ModelFileError
from dreambooth.families.recognition import FOLDER_STEMS
from dreambooth.reading import printable
from dreambooth.weights.diffusers_files import stems_of

__all__ = ["SECONDS_TO_ANSWER", "fetch", "fetch_captioner", "fetch_encoder", "shown_download", "snapshot_before", "was_fetched"]

_SECOND_TEXT_ENCODER = "text_encoder_2"
_FOLDERS = (*FOLDER_STEMS, _SECOND_TEXT_ENCODER, "tokenizer", "tokenizer_2", "scheduler")
# Full precision before half: training goes on from these weights. Then safetensors before pickles.
_PREFERENCE = tuple((variant, ending) for variant in ("", "fp32", "fp16", "bf16") for ending in ("safetensors", "bin"))
_OTHER_FAMILIES = ("text_encoder_3/", "transformer/")
_ENCODER_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_ENCODER_TEXTS = ("config.json", "preprocessor_config.json")
_TOKENIZERS = ("tokenizer.json", "vocab.txt")
_SINGLE_FILE_ENDINGS = (".safetensors", ".ckpt")
SECONDS_TO_ANSWER = 20.0
"""How long the hub may take to answer."""

_GIVE_A_FILE = "Or download the model another way and give its file or folder instead of the hub id."


def was_fetched(hub_id: str) -> bool:
    """Whether the hub's cache on this machine has anything of owner/name; a relative path of the same form is told by that."""
    from huggingface_hub import constants

    return (Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}").is_dir()


def fetch(hub_id: str) -> Path:
    """Download what is needed of `hub_id` (owner/name) into the hub's cache, and give the folder or the single file.

    Of a diffusers folder this is one file of weights for each part (see the order above), with the JSON and text files; of
    a repository without such a folder its one checkpoint. Without a connection, what was downloaded before is used.

    Raises ModelFileError when there is no connection and no earlier download, when the repository does not exist, needs an
    account, holds no Stable Diffusion 1, or several checkpoints to choose from.
    """
    folder, wanted = _fetch(hub_id, _choose)
    return folder / wanted[0] if len(wanted) == 1 else folder


def fetch_encoder(hub_id: str) -> Path:
    """Download a vision transformer or a CLIP as transformers keeps them, two small JSON files and one file of weights, into
    the hub's cache; the folder. Without a connection, what was downloaded before is used.

    Raises ModelFileError as `fetch` does, and for a repository that holds no such model.
    """
    return _fetch(hub_id, _choose_encoder)[0]


def fetch_captioner(hub_id: str) -> Path:
    """The same for a model that reads words by a tokenizer of its own, with the files of that tokenizer."""
    return _fetch(hub_id, _choose_captioner)[0]


def _fetch(hub_id: str, choose: Callable[[str, Sequence[str]], list[str]]) -> tuple[Path, list[str]]:
    """The folder with those files of a repository that are chosen from their names, and the names of these."""
    from huggingface_hub import model_info, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        files = model_info(hub_id, timeout=SECONDS_TO_ANSWER, files_metadata=True).siblings or []
    except (HfHubHTTPError, HFValidationError) as error:
        raise _refused(hub_id, error) from error
    except Exception as error:  # the hub's library lets the errors of whichever HTTP library it uses through
        return _fetched_before(hub_id, choose, error)
    wanted = choose(hub_id, [file.rfilename for file in files])
    try:
        with shown_download(hub_id, {file.rfilename: file.size or 0 for file in files if file.rfilename in wanted}):
            folder = Path(snapshot_download(hub_id, allow_patterns=[escape(name) for name in wanted]))
    except HfHubHTTPError as error:
        raise _refused(hub_id, error) from error
    except Exception as error:
        raise ModelFileError(
            f"{hub_id}: the download was interrupted ({type(error).__name__}: {error})",
            hint=f"Run the same command again to continue the download. {_GIVE_A_FILE}",
        ) from error
    return folder, wanted


@contextmanager
def shown_download(
    hub_id: str,
    sizes: Mapping[str, int],
    *,
    repo_type: str = "model",
    revision: str | None = None,
    shown_as: str | None = None,
) -> Iterator[None]:
    """Say on stderr what will be downloaded and how large it is, and let the library draw its bars; nothing if all is there.

    `sizes` are those of the files by name; `shown_as` is what the repository is called, if not by its id.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    def is_there(name: str) -> bool:
        return isinstance(try_to_load_from_cache(hub_id, name, repo_type=repo_type, revision=revision), str)

    missing = {name: size for name, size in sizes.items() if not is_there(name)}
    if missing:
        what = f"{counted(len(missing), 'file')}, {sum(missing.values()) / 1e9:.2f} GB"
        if sys.stderr is not None:
            sys.stderr.write(
                f"Downloading {printable(shown_as or hub_id)} from the Hugging Face hub: {what}, to {constants.HF_HUB_CACHE}\n"
            )
            sys.stderr.flush()
        yield
    elif are_progress_bars_disabled():
        yield
    else:
        disable_progress_bars()
        try:
            yield
        finally:
            enable_progress_bars()


def _choose_encoder(hub_id: str, names: Sequence[str]) -> list[str]:
    weights = [name for name in _ENCODER_WEIGHTS if name in names][:1]
    if missing := [name for name in _ENCODER_TEXTS if name not in names] + ([] if weights else [" or ".join(_ENCODER_WEIGHTS)]):
        raise ModelFileError(
            f"{hub_id}: not an image encoder in the format of transformers: it has no {', no '.join(missing)}",
            hint="Give one such as facebook/dino-vits16 or openai/clip-vit-base-patch32.",
        )
    return [*_ENCODER_TEXTS, *weights]


def _choose_captioner(hub_id: str, names: Sequence[str]) -> list[str]:
    tokenizer = [name for name in _TOKENIZERS if name in names]
    if not tokenizer:
        raise ModelFileError(
            f"{hub_id}: not a model that answers questions: it has no {' or '.join(_TOKENIZERS)}",
            hint="Give one such as Salesforce/blip-vqa-base.",
        )
    return [*_choose_encoder(hub_id, names), *tokenizer, *(name for name in ("tokenizer_config.json",) if name in names)]


def _choose(hub_id: str, names: Sequence[str]) -> list[str]:
    """The files of a repository to download: a diffusers folder's, or the one checkpoint."""
    if any(name.startswith(_OTHER_FAMILIES) for name in names):
        raise ModelFileError(
            f"{hub_id}: a later model family (SD3, FLUX or similar), not Stable Diffusion 1 or XL; nothing was downloaded",
            hint="Give a Stable Diffusion model, for example stable-diffusion-v1-5/stable-diffusion-v1-5.",
        )
    if "model_index.json" not in names:
        return [_single_file(hub_id, names)]
    parts = [
        *FOLDER_STEMS,
        *([_SECOND_TEXT_ENCODER] if any(name.startswith(f"{_SECOND_TEXT_ENCODER}/") for name in names) else []),
    ]
    weights = {part: _weights(part, f"(?:{'|'.join(stems_of(part))})", names) for part in parts}
    if missing := [part for part, files in weights.items() if not files]:
        raise ModelFileError(
            [f"{hub_id}: no PyTorch weights in its folder '{part}'" for part in missing],
            hint="Give a repository with .safetensors or .bin files in unet, vae and text_encoder.",
        )
    texts = [name for name in names if name.endswith((".json", ".txt")) and ".index." not in name]
    small = [name for name in texts if name.count("/") == 1 and name.startswith(tuple(f"{part}/" for part in _FOLDERS))]
    return ["model_index.json", *small, *(name for files in weights.values() for name in files)]


def _weights(part: str, stem: str, names: Sequence[str]) -> list[str]:
    """One form of a part's weights: a file, or its shards with their index. Empty when there is none."""
    for variant, ending in _PREFERENCE:
        mark = rf"\.{variant}" if variant else ""
        shard = r"-\d+-of-\d+"
        whole = re.compile(rf"{part}/{stem}{mark}\.{ending}")
        pieces = re.compile(
            rf"{part}/{stem}(?:{mark}{shard}|{shard}{mark})\.{ending}|{part}/{stem}(?:\.{ending}\.index{mark}|{mark}\.{ending}\.index)\.json"
        )
        for form in (whole, pieces):
            if found := [name for name in names if form.fullmatch(name)]:
                return found
    return []


def _single_file(hub_id: str, names: Sequence[str]) -> str:
    for ending in _SINGLE_FILE_ENDINGS:
        found = [name for name in names if name.endswith(ending) and "/" not in name]
        if len(found) == 1:
            return found[0]
        if found:
            raise ModelFileError(
                f"{hub_id}: contains {len(found)} checkpoints: {', '.join(found[:8])}",
                hint=f"Download the one you want, `hf download {hub_id} {found[0]} --local-dir .`, and give that file.",
            )
    inside = ", ".join(names[:6]) or "nothing"
    raise ModelFileError(
        f"{hub_id}: neither a diffusers folder nor a .safetensors or .ckpt file; it contains {inside}",
        hint="Give the hub id of a Stable Diffusion 1 model, for example stable-diffusion-v1-5/stable-diffusion-v1-5.",
    )


def _fetched_before(hub_id: str, choose: Callable[[str, Sequence[str]], list[str]], cause: Exception) -> tuple[Path, list[str]]:
    """What an earlier download left: the folder, and the names of what is wanted in it."""
    try:
        folder = snapshot_before(hub_id)
    except Exception:
        raise _unreachable(hub_id, cause) from cause
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    try:
        return folder, choose(hub_id, names)
    except ModelFileError as error:
        raise ModelFileError(
            [
                f"{hub_id}: no connection to the hub, and the earlier download in {folder} is incomplete",
                *error.problems,
            ],
            hint=f"Connect and try again. {_GIVE_A_FILE}",
        ) from cause


def snapshot_before(hub_id: str, *, repo_type: str = "model", revision: str | None = None) -> Path:
    """The folder of an earlier download, whether or not it is whole; raises an error of the hub's library without one."""
    from huggingface_hub import snapshot_download

    # No file is asked for: newer libraries refuse the folder of a repository of which some file was never wanted.
    nothing: list[str] = []
    return Path(
        snapshot_download(hub_id, repo_type=repo_type, revision=revision, allow_patterns=nothing, local_files_only=True)
    )


def _refused(hub_id: str, error: Exception) -> ModelFileError:
    """Translate the hub's HTTP errors."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    page = f"https://huggingface.co/{hub_id}"
    if isinstance(error, HFValidationError):
        return ModelFileError(
            f"{hub_id}: neither an existing file or folder nor a hub id", hint="Give a path, or a hub id such as owner/name."
        )
    if isinstance(error, GatedRepoError):
        return ModelFileError(
            f"{hub_id}: the hub requires a login and acceptance of this model's terms",
            hint=f"Accept the terms on {page}, then run `hf auth login` and try again. {_GIVE_A_FILE}",
        )
    if isinstance(error, RepositoryNotFoundError):
        return ModelFileError(
            f"{hub_id}: neither an existing file or folder nor a public model on the hub",
            hint=f"Check the spelling; if the model is private, run `hf auth login` and try again. {_GIVE_A_FILE}",
        )
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if status in (401, 403):
        return ModelFileError(
            f"{hub_id}: the hub rejected the login (status {status})",
            hint=f"Run `hf auth login` with a token that has access to {page}, and try again. {_GIVE_A_FILE}",
        )
    return ModelFileError(f"{hub_id}: the hub answered with status {status}", hint=f"Try again later. {_GIVE_A_FILE}")


def _unreachable(hub_id: str, error: Exception) -> ModelFileError:
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return ModelFileError(
            f"{hub_id}: no such file or folder; the hub is disabled by HF_HUB_OFFLINE and there is no earlier download",
            hint=f"Unset HF_HUB_OFFLINE and try again. {_GIVE_A_FILE}",
        )
    return ModelFileError(
        f"{hub_id}: no such file or folder; as a hub id it could not be downloaded, and there is no earlier download "
        f"({type(error).__name__}: {error})",
        hint=f"Check the path or the connection and try again. {_GIVE_A_FILE}",
    )
