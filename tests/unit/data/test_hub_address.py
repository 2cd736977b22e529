"""Which paths are addresses of datasets."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth.data.hub_address import HubDataset, hub_dataset
from dreambooth.data.listing import list_folder, photo_files
from dreambooth.errors import SettingsError


@pytest.mark.parametrize(
    ("typed", "dataset"),
    [
        ("hf://datasets/diffusers/dog-example", HubDataset("diffusers/dog-example")),
        ("hf://datasets/me/rex@v1.0", HubDataset("me/rex", "v1.0")),
        ("hf://datasets/me/rex@refs%2Fpr%2F1/photos/train", HubDataset("me/rex", "refs/pr/1", "photos/train")),
    ],
)
def test_addresses_are_read_and_written(typed: str, dataset: HubDataset) -> None:
    assert hub_dataset(Path(typed)) == dataset and str(dataset) == typed


@pytest.mark.parametrize(
    "typed", ["diffusers/dog-example", "datasets/me/rex", "me/hf:/datasets/rex", "photos", "https://a.org/b", "https:"]
)
def test_a_plain_name_is_never_one(typed: str) -> None:
    assert hub_dataset(Path(typed)) is None


def test_a_folder_of_that_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hf:" / "datasets" / "me" / "rex").mkdir(parents=True)
    assert hub_dataset(Path("hf:/datasets/me/rex")) is None


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("hf://me/rex", "photos is hf://me/rex: expected hf://datasets/OWNER/NAME"),
        ("hf://datasets/rex", "photos is hf://datasets/rex: expected"),
        ("hf://datasets/me/rex/../..", "expected"),
        ("hf://", "photos is hf://: expected hf://datasets/OWNER/NAME"),
        ("HF://datasets/me/rex", "photos is HF://datasets/me/rex: expected hf://datasets/OWNER/NAME"),
        ("hf://datasets/me/rex@", "photos is hf://datasets/me/rex@: expected hf://datasets/OWNER/NAME"),
        ("hf://datasets/me/@v1.0", "expected hf://datasets/OWNER/NAME"),
        ("https://huggingface.co/datasets/me/rex/tree/main", "a web page\nFor a dataset give hf://datasets/me/rex."),
        ("https://hf.co/me/rex", "a web page\nFor a dataset give hf://datasets/OWNER/NAME."),
    ],
)
def test_other_addresses_of_the_hub_are_refused_with_the_form(typed: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        hub_dataset(Path(typed))
    assert told in f"{caught.value.problems[0]}\n{caught.value.hint}"


def test_commands_that_do_not_download_say_how_to() -> None:
    (problem,) = list_folder(Path("hf://datasets/me/rex")).problems
    assert problem.message == "is a dataset on the hub (hf://datasets/me/rex); only train, batch, plan and photos download it"
    assert "`hf download me/rex --repo-type dataset --local-dir photos`" in problem.advice
    (other,) = list_folder(Path("hf://me/rex")).problems
    assert "expected hf://datasets/OWNER/NAME" in other.message


def test_of_names_those_of_photos_and_what_belongs_to_them_are_chosen() -> None:
    wanted = ["a.jpg", "a.txt", "b/c.PNG", "b/c-mask.png", "b/c.PNG.caption", "b/c.json", "metadata.jsonl", "b/metadata.csv"]
    others = [
        "README.md",
        "LICENSE.txt",
        "b/other.json",
        ".gitattributes",
        ".cache/d.png",
        "x.parquet",
        "a.py",
        "__MACOSX/e.jpg",
    ]
    assert photo_files([*others, *wanted]) == wanted
    assert photo_files(["a.txt", "metadata.jsonl"]) == []
