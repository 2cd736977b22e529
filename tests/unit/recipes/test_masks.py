"""Masks are proposed for photos without one, marked as proposals, and never put in the place of what a hand made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dreambooth.config import parse_settings
from dreambooth.data.photos import MaskSource, scan_photos
from dreambooth.display import Display
from dreambooth.errors import ModelFileError, SettingsError
from dreambooth.measures.settings import MasksSettings
from dreambooth.recipes import masks as recipe


class Segmenter:
    """Finds the bright pixels, more of them with each word."""

    def probabilities(self, pixels_HWC: Any, words: str) -> torch.Tensor:
        bright = torch.from_numpy(pixels_HWC[:, :, 0].astype(np.float32)) / 255
        return bright if words == "dog" else torch.zeros_like(bright)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three photos with a bright square each, at another place, one of which has a mask."""
    monkeypatch.setattr(recipe, "load_segmenter", lambda folder, device: Segmenter())
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        pixels = np.full((40, 60, 3), 20 + 10 * number, np.uint8)
        pixels[5 : 15 + 5 * number, 10 * number : 20 + 10 * number] = 250
        Image.fromarray(pixels).save(photos / f"{number}.png")
    Image.new("L", (60, 40), 255).save(photos / "2-mask.png")
    return photos


def propose(folder: Path, display: Display, **more: Any) -> recipe.MaskProposals:
    given = {
        "photos": str(folder),
        "class_word": "dog",
        "segmenter": str(folder),
        "output": str(folder.parent / "check"),
        **more,
    }
    return recipe.propose_masks(parse_settings(MasksSettings, given, where="test"), display)


def test_photos_without_a_mask_get_one(folder: Path, display: Display, said: Callable[[], str]) -> None:
    by_hand = (folder / "2-mask.png").read_bytes()
    found = propose(folder, display)
    assert [path.name for path in found.written] == ["0-mask.png", "1-mask.png"]
    assert [path.name for path in found.kept] == ["2.png"]
    assert (folder / "2-mask.png").read_bytes() == by_hand
    mask = np.asarray(Image.open(folder / "0-mask.png").convert("L"))
    assert mask.shape == (40, 60) and (mask[5:15, :20] == 255).all() and mask.sum() == 255 * 10 * 20
    report = scan_photos(folder, role="instance", resolution=16, masks=MaskSource())
    assert len(report.photos) == 3 and all(photo.mask is not None for photo in report.photos)
    assert all(sheet.is_file() for sheet in found.sheets)
    assert "2 masks written, 1 kept:" in said() and "White is the subject" in said()


def test_proposals_are_replaced_only_when_asked_for_and_corrections_never(folder: Path, display: Display) -> None:
    propose(folder, display)
    assert propose(folder, display).written == ()
    with Image.open(folder / "0-mask.png") as mask:
        text, corrected = mask.text["dreambooth"], mask.convert("L")  # type: ignore[attr-defined]
    corrected.putpixel((59, 39), 255)
    pixels = torch.from_numpy(np.asarray(corrected, dtype=np.float32) / 255).expand(3, -1, -1)
    recipe.save_picture(folder / "0-mask.png", pixels, {"dreambooth": text})  # an editor that keeps our mark
    again = propose(folder, display, again=True)
    assert [path.name for path in again.written] == ["1-mask.png"]
    assert Image.open(folder / "0-mask.png").convert("L").getpixel((59, 39)) == 255


def test_photos_in_which_nothing_is_found_are_named(folder: Path, display: Display, said: Callable[[], str]) -> None:
    found = propose(folder, display, class_word="cat")
    assert found.written == () and [path.name for path in found.empty] == ["0.png", "1.png"]
    assert not (folder / "0-mask.png").exists()
    assert "warning: 0.png: nothing in it looks like 'cat'; try a lower --threshold, or draw its mask" in said()


def test_models_and_places_that_cannot_be_used(folder: Path, display: Display) -> None:
    with pytest.raises(ModelFileError, match="no/such/folder: no such folder"):
        propose(folder, display, segmenter="no/such/folder")
    with pytest.raises(SettingsError, match="inside the photo folder"):
        propose(folder, display, output=str(folder / "check"))
