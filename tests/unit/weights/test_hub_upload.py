"""Publishing on the hub: what is asked of it, and what its refusals become. A stand-in takes the place of its API."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

from dreambooth.errors import RunError, SettingsError
from dreambooth.weights.hub_upload import upload

TOKEN = "hf_secret"


class Api:
    """One repository, or an error; remembers what it was given."""

    def __init__(self, *, is_private: bool = True, error: Exception | None = None) -> None:
        self.is_private, self.error = is_private, error
        self.made: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}

    def create_repo(self, repo: str, **options: Any) -> str:
        if self.error is not None:
            raise self.error
        self.made = {"repo": repo, **options}
        return f"https://huggingface.co/{repo}"

    def model_info(self, repo: str) -> Any:
        return SimpleNamespace(private=self.is_private)

    def create_commit(self, repo: str, *, operations: list[Any], commit_message: str, repo_type: str) -> None:
        for one in operations:
            with one.as_file() as file:
                self.files[one.path_in_repo] = file.read()


def refused(status: int) -> HfHubHTTPError:
    response: Any = SimpleNamespace(status_code=status, headers={"authorization": TOKEN}, request=None)
    return HfHubHTTPError(f"refused {TOKEN}", response=response)


def test_files_are_published_in_a_private_repository(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"weights")
    api = Api()
    page = upload({"README.md": b"card", "model": tmp_path / "model"}, "me/rex", private=True, message="Add rex", api=api)
    assert page == "https://huggingface.co/me/rex"
    assert api.made == {"repo": "me/rex", "private": True, "exist_ok": True, "repo_type": "model"}
    assert api.files == {"README.md": b"card", "model": b"weights"}


def test_a_public_repository_is_used_only_when_asked_for() -> None:
    api = Api(is_private=False)
    with pytest.raises(SettingsError) as caught:
        upload({"README.md": b"card"}, "me/rex", private=True, message="Add", api=api)
    assert caught.value.problems == ("me/rex exists and is public, so everyone would see the model",)
    assert api.files == {}
    upload({"README.md": b"card"}, "me/rex", private=False, message="Add", api=api)
    assert api.files == {"README.md": b"card"}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (refused(403), "me/rex: the hub refused with status 403\nLog in with `hf auth login`"),
        (refused(500), "me/rex: the hub refused with status 500\nTry again later."),
        (LocalTokenNotFoundError("no token"), "me/rex: the hub needs a login to publish\nLog in with"),
        (OfflineModeIsEnabled("off"), "me/rex: the hub is disabled by HF_HUB_OFFLINE"),
        (HFValidationError("odd"), "repo is me/rex: expected a hub id such as owner/name"),
        (
            ConnectionError(f"no way for {TOKEN}"),
            "could not be reached, or the upload was interrupted (ConnectionError)",
        ),
    ],
)
def test_refusals_are_explained_without_the_login(error: Exception, message: str) -> None:
    with pytest.raises((RunError, SettingsError)) as caught:
        upload({}, "me/rex", private=True, message="Add", api=Api(error=error))
    assert message in caught.value.text
    assert TOKEN not in caught.value.text
