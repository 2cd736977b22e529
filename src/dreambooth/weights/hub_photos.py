"""Photos of a dataset on the Hugging Face hub: pictures, captions, masks and tables of captions, and nothing else of it.

They are downloaded into the hub library's cache. What a complete download consists of is noted in the place that this cache has
for other programs, so that without a connection a part is never taken for the whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from glob import escape
from pathlib import Path, PurePosixPath

from dreambooth.data.archives import ARCHIVE_SUFFIXES, MOST_BYTES, MOST_FILES
from dreambooth.data.hub_address import HubDataset
from dreambooth.data.listing import photo_files
from dreambooth.display import counted, listed
from dreambooth.errors import PhotoError
from dreambooth.files import write_text
from dreambooth.weights.hub import SECONDS_TO_ANSWER, shown_download, snapshot_before

__all__ = ["fetch_photos"]

_KIND = "dataset"
_SHOWN = 6  # names in a message
_CHARACTERS = 12  # of a digest in a file's name


def fetch_photos(dataset: HubDataset) -> Path:
    """Download the photos of a dataset with what belongs to them into the hub's cache; the folder.

    Without a connection, what was downloaded before is used if it is whole. Raises PhotoError when that is missing, when the
    dataset does not exist, needs an account, keeps its pictures in Parquet files or archives, has none, or has too many.
    """
    from huggingface_hub import dataset_info
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        info = dataset_info(dataset.repo, revision=dataset.revision, timeout=SECONDS_TO_ANSWER, files_metadata=True)
    except (HfHubHTTPError, HFValidationError) as error:
        raise _refused(dataset, error) from error
    except Exception as error:  # the hub's library lets the errors of whichever HTTP library it uses through
        return _fetched_before(dataset, error)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    wanted = _choose(dataset, sizes)
    snapshot = _download(dataset, sizes, wanted)
    write_text(_note(dataset, snapshot.name), json.dumps(wanted))
    return snapshot / dataset.folder


def _choose(dataset: HubDataset, sizes: Mapping[str, int]) -> list[str]:
    """The names of the files to download. Raises PhotoError if there are no pictures, or too many."""
    inside = [name for name in sizes if PurePosixPath(name).is_relative_to(dataset.folder)]
    wanted = photo_files(inside)
    if not wanted:
        raise _without_pictures(dataset, inside)
    num_bytes = sum(sizes[name] for name in wanted)
    if len(wanted) > MOST_FILES or num_bytes > MOST_BYTES:
        raise PhotoError(
            f"{dataset}: {counted(len(wanted), 'file')} of photos and captions, {num_bytes / 1e9:.1f} GB; at most {MOST_FILES} "
            f"and {MOST_BYTES / 1e9:.1f} GB are downloaded",
            hint=f"Give a folder of it, such as {HubDataset(dataset.repo, dataset.revision, _a_folder(wanted))}.",
        )
    return wanted


def _without_pictures(dataset: HubDataset, names: Sequence[str]) -> PhotoError:
    download = f"hf download {dataset.repo} --repo-type dataset"
    if tables := [name for name in names if name.endswith(".parquet")]:
        load = f"datasets.load_dataset('{dataset.repo}', split='train')"
        return PhotoError(
            f"{dataset}: keeps its pictures in Parquet files, which are not read: {listed(tables, most=_SHOWN)}",
            hint="Write them as files and give that folder. In Python, after `pip install datasets`, with a folder photos:\n"
            f"  for number, row in enumerate({load}): row['image'].convert('RGB').save(f'photos/{{number:05}}.png')",
        )
    if archives := [name for name in names if name.lower().endswith(ARCHIVE_SUFFIXES)]:
        return PhotoError(
            f"{dataset}: keeps its pictures in archives: {listed(archives, most=_SHOWN)}",
            hint=f"Download the one you want, `{download} {archives[0]} --local-dir .`, and give that file to --photos.",
        )
    return PhotoError(
        f"{dataset}: contains no pictures, but {listed(names, most=_SHOWN) or 'nothing'}",
        hint="Give another dataset or folder.",
    )


def _download(dataset: HubDataset, sizes: Mapping[str, int], wanted: Sequence[str]) -> Path:
    """The snapshot with all wanted files."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    # Few patterns, for each is tried on each name: by suffix, without what else has that suffix.
    suffixes, chosen = sorted({PurePosixPath(name).suffix for name in wanted}), frozenset(wanted)
    inside = f"{escape(dataset.folder)}/" if dataset.folder else ""
    unwanted = [escape(name) for name in sizes if name not in chosen and PurePosixPath(name).suffix in suffixes]
    missing, revision = {name: sizes[name] for name in wanted}, dataset.revision
    try:
        with shown_download(dataset.repo, missing, repo_type=_KIND, revision=revision, shown_as=str(dataset)):
            snapshot = Path(
                snapshot_download(
                    dataset.repo,
                    repo_type=_KIND,
                    revision=revision,
                    allow_patterns=[f"{inside}*{escape(suffix)}" for suffix in suffixes],
                    ignore_patterns=unwanted or None,
                )
            )
    except HfHubHTTPError as error:
        raise _refused(dataset, error) from error
    except Exception as error:
        raise _interrupted(dataset, f"{type(error).__name__}: {error}") from error
    if not all((snapshot / name).is_file() for name in wanted):
        raise _interrupted(dataset, "the dataset was changed meanwhile")
    return snapshot


def _fetched_before(dataset: HubDataset, cause: Exception) -> Path:
    """The folder of an earlier download that is whole."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    is_off = isinstance(cause, OfflineModeIsEnabled)
    why = "the hub is disabled by HF_HUB_OFFLINE" if is_off else f"the hub cannot be reached ({type(cause).__name__})"
    folder = f"hf download {dataset.repo} --repo-type dataset --local-dir photos"
    hint = (
        f"{'Unset HF_HUB_OFFLINE' if is_off else 'Check the connection'} and try again. Or type `{folder}` where there is a "
        "connection, and give that folder: --photos photos"
    )
    try:
        snapshot = snapshot_before(dataset.repo, repo_type=_KIND, revision=dataset.revision)
        wanted = json.loads(_note(dataset, snapshot.name).read_text(encoding="utf-8"))
    except Exception:
        raise PhotoError(f"{dataset}: {why}, and there is no earlier download", hint=hint) from cause
    if not all((snapshot / name).is_file() for name in wanted):
        raise PhotoError(f"{dataset}: {why}, and the earlier download in {snapshot} is incomplete", hint=hint) from cause
    return snapshot / dataset.folder


def _note(dataset: HubDataset, commit: str) -> Path:
    """The file that lists what a complete download of a commit consists of."""
    from huggingface_hub import cached_assets_path

    folder = hashlib.sha256(dataset.folder.encode()).hexdigest()[:_CHARACTERS]
    return Path(cached_assets_path("dreambooth", namespace="photos", subfolder=dataset.repo)) / f"{commit}-{folder}.json"


def _interrupted(dataset: HubDataset, reason: str) -> PhotoError:
    return PhotoError(
        f"{dataset}: the download was interrupted ({reason})", hint="Run the same command again to continue the download."
    )


def _refused(dataset: HubDataset, error: Exception) -> PhotoError:
    """Translate the hub's HTTP errors."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"https://huggingface.co/datasets/{dataset.repo}"
    log_in = f"Accept its terms on {page} if it has any, then run `hf auth login` and try again."
    if isinstance(error, HFValidationError):
        return PhotoError(
            f"{dataset}: not a dataset of the hub", hint="Give an address such as hf://datasets/diffusers/dog-example."
        )
    if isinstance(error, GatedRepoError):
        return PhotoError(f"{dataset}: the hub requires a login and acceptance of this dataset's terms", hint=log_in)
    if isinstance(error, RevisionNotFoundError):
        return PhotoError(f"{dataset}: the dataset has no revision {dataset.revision}", hint=f"Look at {page}.")
    if isinstance(error, RepositoryNotFoundError):
        return PhotoError(
            f"{dataset}: no public dataset of the hub",
            hint="Check the spelling; if the dataset is private, run `hf auth login` and try again.",
        )
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    hint = log_in if status in (401, 403) else "Try again later."
    return PhotoError(f"{dataset}: the hub answered with status {status}", hint=hint)


def _a_folder(names: Sequence[str]) -> str:
    return next((str(PurePosixPath(name).parent) for name in names if "/" in name), "FOLDER")
