"""Publishes files in a model repository of the Hugging Face hub. The login is the hub library's own, and is never kept here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dreambooth.errors import RunError, SettingsError

__all__ = ["has_login", "upload"]

_LOG_IN = "Log in with `hf auth login`, with a token that may write, and try again."


def has_login() -> bool:
    """Whether this machine is logged in to the hub; the token itself is not returned."""
    from huggingface_hub import get_token

    return get_token() is not None


def upload(files: Mapping[str, Path | bytes], repo: str, *, private: bool, message: str, api: Any = None) -> str:
    """Put the files, by their names in the repository, into `repo` (owner/name) in one commit; the address of the repository.

    A repository that does not exist is made. Raises SettingsError if it is public although `private` is set, and RunError when
    the hub refuses or cannot be reached. `api` stands for `huggingface_hub.HfApi()`.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi() if api is None else api
    page = _asked(repo, lambda: api.create_repo(repo, private=private, exist_ok=True, repo_type="model"))
    if private and not _asked(repo, lambda: api.model_info(repo)).private:
        raise SettingsError(
            f"{repo} exists and is public, so everyone would see the model",
            hint="Give another --repo, or --no-private to publish it there.",
        )
    added = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=data if isinstance(data, bytes) else str(data))
        for name, data in files.items()
    ]
    _asked(repo, lambda: api.create_commit(repo, operations=added, commit_message=message, repo_type="model"))
    return str(page)


def _asked(repo: str, ask: Callable[[], Any]) -> Any:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:
        return ask()
    except HFValidationError as error:
        raise SettingsError(f"repo is {repo}: expected a hub id such as owner/name") from error
    except LocalTokenNotFoundError as error:
        raise RunError(f"{repo}: the hub needs a login to publish", hint=_LOG_IN) from error
    except OfflineModeIsEnabled as error:
        raise RunError(f"{repo}: the hub is disabled by HF_HUB_OFFLINE", hint="Unset it, or use --dry-run.") from error
    except HfHubHTTPError as error:  # its text may quote the request, so it is not shown
        status = error.response.status_code
        hint = _LOG_IN if status in (401, 403) else "Try again later."
        raise RunError(f"{repo}: the hub refused with status {status}", hint=hint) from error
    except Exception as error:  # the hub's library lets the errors of whichever HTTP library it uses through
        raise RunError(
            f"{repo}: the hub could not be reached, or the upload was interrupted ({type(error).__name__})",
            hint="Run the same command again; what was uploaded is not sent twice.",
        ) from error
