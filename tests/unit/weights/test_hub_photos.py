"""Photos of a dataset: what is asked of the hub, and what its refusals become. Its functions are replaced."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from dreambooth.data.hub_address import HubDataset
from dreambooth.data.settings import SubjectSettings
from dreambooth.errors import PhotoError
from dreambooth.trainer.photo_folders import with_photo_folders
from dreambooth.weights import hub_photos
from dreambooth.weights.hub_photos import fetch_photos

REX = HubDataset("me/rex")
FILES = {"README.md": 9, "LICENSE.txt": 5, "train/0.jpg": 1_500_000, "train/0.txt": 4, "test/[1].png": 10, "metadata.jsonl": 20}


class Hub:
    """Stands for huggingface_hub: one dataset in one commit, or an error; remembers what was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, place: Path, files: Mapping[str, int] = FILES) -> None:
        self.files, self.place, self.error, self.asked = dict(files), place, None, dict[str, Any]()
        self.leaves_out = frozenset[str]()
        for name in ("dataset_info", "snapshot_download", "cached_assets_path"):
            monkeypatch.setattr(huggingface_hub, name, getattr(self, name))

    def dataset_info(self, repo: str, *, revision: str | None, timeout: float, files_metadata: bool) -> Any:
        assert 0 < timeout <= 60 and files_metadata
        if self.error is not None:
            raise self.error
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name, size=size) for name, size in self.files.items()])

    def snapshot_download(self, repo: str, *, local_files_only: bool = False, **asked: Any) -> str:
        commit = self.place / "snapshots" / "c0ffee"
        if local_files_only:
            assert asked["allow_patterns"] == [], "or the hub's library asks for files that nobody wanted"
            if not commit.is_dir():
                raise LocalEntryNotFoundError("nothing cached")
            return str(commit)
        self.asked = {"repo": repo, **asked}
        allowed, ignored = asked["allow_patterns"], asked["ignore_patterns"] or []
        for name in self.files:
            is_wanted = any(fnmatch(name, one) for one in allowed) and not any(fnmatch(name, one) for one in ignored)
            if is_wanted and name not in self.leaves_out:
                (commit / name).parent.mkdir(parents=True, exist_ok=True)
                (commit / name).write_bytes(b"x")
        return str(commit)

    def cached_assets_path(self, library: str, *, namespace: str, subfolder: str) -> Path:
        folder = self.place / "assets" / library / namespace / subfolder.replace("/", "--")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def downloaded(self) -> list[str]:
        folder = self.place / "snapshots" / "c0ffee"
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def told(dataset: HubDataset = REX) -> str:
    with pytest.raises(PhotoError) as caught:
        fetch_photos(dataset)
    return f"{caught.value.problems[0]}\n{caught.value.hint}"


def test_only_photos_and_what_belongs_to_them_are_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = Hub(monkeypatch, tmp_path)
    assert fetch_photos(REX) == tmp_path / "snapshots" / "c0ffee"
    assert hub.downloaded == ["metadata.jsonl", "test/[1].png", "train/0.jpg", "train/0.txt"]
    assert (hub.asked["repo"], hub.asked["repo_type"], hub.asked["revision"]) == ("me/rex", "dataset", None)
    assert capsys.readouterr().err.startswith(
        "Downloading hf://datasets/me/rex from the Hugging Face hub: 4 files, 0.00 GB, to /"
    )


def test_a_folder_of_a_revision_is_downloaded_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub = Hub(monkeypatch, tmp_path)
    subject = SubjectSettings(photos=Path("hf://datasets/me/rex@v1/train"), class_word="dog")
    assert with_photo_folders(subject, tmp_path).photos == tmp_path / "snapshots" / "c0ffee" / "train"
    assert hub.downloaded == ["train/0.jpg", "train/0.txt"] and hub.asked["revision"] == "v1"


def test_without_a_connection_an_earlier_download_serves_if_it_is_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub = Hub(monkeypatch, tmp_path)
    hub.error = ConnectionError("no route")
    message = told()
    assert message.startswith(
        "hf://datasets/me/rex: the hub cannot be reached (ConnectionError), and there is no earlier download"
    )
    assert "`hf download me/rex --repo-type dataset --local-dir photos`" in message and "--photos photos" in message
    hub.error = None
    folder = fetch_photos(REX)
    hub.error = OfflineModeIsEnabled("off")
    assert fetch_photos(REX) == folder
    assert "and there is no earlier download" in told(HubDataset("me/rex", None, "test")), "a part is not the whole"
    (folder / "train" / "0.jpg").unlink()
    message = told()
    assert "the hub is disabled by HF_HUB_OFFLINE, and the earlier download in" in message
    assert "is incomplete\nUnset HF_HUB_OFFLINE and try again" in message


def test_a_download_that_breaks_off_is_no_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub = Hub(monkeypatch, tmp_path)
    hub.leaves_out = frozenset({"train/0.jpg"})
    assert told().startswith(
        "hf://datasets/me/rex: the download was interrupted (the dataset was changed meanwhile)\nRun the same"
    )
    hub.error = ConnectionError("no route")
    assert "there is no earlier download" in told()


@pytest.mark.parametrize(
    ("files", "messages"),
    [
        (
            ["README.md", "data/train-00000-of-00001.parquet"],
            [
                "keeps its pictures in Parquet files, which are not read: data/train-00000-of-00001.parquet",
                "datasets.load_dataset('me/rex', split='train')",
            ],
        ),
        (["rex.zip", "README.md"], ["keeps its pictures in archives: rex.zip", "--repo-type dataset rex.zip --local-dir .`"]),
        (["README.md", "a.csv"], ["contains no pictures, but README.md, a.csv"]),
        ([], ["contains no pictures, but nothing"]),
    ],
)
def test_a_dataset_without_picture_files_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: list[str], messages: list[str]
) -> None:
    Hub(monkeypatch, tmp_path, dict.fromkeys(files, 1))
    message = told()
    assert all(one in message for one in messages), message


def test_more_than_an_archive_may_hold_is_not_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub = Hub(monkeypatch, tmp_path, {"cats/0.png": 17 << 30, "cats/1.png": 1})
    message = told()
    assert "2 files of photos and captions, 18.3 GB; at most 20000 and 17.2 GB are downloaded" in message
    assert "Give a folder of it, such as hf://datasets/me/rex/cats." in message and hub.asked == {}
    monkeypatch.setattr(hub_photos, "MOST_FILES", 1)
    hub.files = {"0.png": 1, "1.png": 1}
    assert "2 files of photos and captions, 0.0 GB; at most 1 and" in told()


def refused(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    response: Any = SimpleNamespace(status_code=status, headers={}, request=None)
    return kind("refused", response=response)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            refused(GatedRepoError, 403),
            "requires a login and acceptance of this dataset's terms\nAccept its terms on https://hugg",
        ),
        (refused(RepositoryNotFoundError, 404), "no public dataset of the hub\nCheck the spelling"),
        (refused(RevisionNotFoundError, 404), "the dataset has no revision None"),
        (refused(HfHubHTTPError, 401), "the hub answered with status 401\nAccept its terms"),
        (refused(HfHubHTTPError, 503), "the hub answered with status 503\nTry again later."),
        (HFValidationError("odd"), "not a dataset of the hub\nGive an address such as hf://datasets/diffusers/dog-example."),
    ],
)
def test_refusals_are_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, message: str) -> None:
    hub = Hub(monkeypatch, tmp_path)
    hub.error = error
    assert told().startswith("hf://datasets/me/rex: ") and message in told()
