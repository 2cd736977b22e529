"""Which files of a folder are pictures, which are captions, and which are neither."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dreambooth.data.decoding import SIGNATURE_BYTES, signature
from dreambooth.data.hub_address import hub_dataset
from dreambooth.data.problems import PhotoProblem
from dreambooth.errors import SettingsError

__all__ = [
    "CAPTION_SUFFIXES",
    "LATENT_SUFFIX",
    "MANIFEST_NAME",
    "FolderListing",
    "list_folder",
    "mask_target",
    "photo_files",
    "stem_of",
]

CAPTION_SUFFIXES = (".txt", ".caption", ".json")
"""Of the files beside pictures, in the order in which they are preferred; kohya's trainer writes .caption."""

MANIFEST_NAME = "manifest.json"
"""The file that says how a set of class images was made; see `prior_sets`."""

LATENT_SUFFIX = ".safetensors"
"""Of the latents beside the pictures of such a set."""

_USUAL = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
_PICTURES = _USUAL | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".heic", ".heif", ".hif", ".jxl"}
_CLOUD_SUFFIX = ".icloud"  # of the hidden files that macOS leaves where a photo was not downloaded
_RAW = frozenset({".3fr", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw"})
_OTHER_FORMATS = {
    **{".tga": "TGA", ".ico": "ICO", ".icns": "ICNS", ".pcx": "PCX", ".dds": "DDS", ".exr": "OpenEXR", ".hdr": "Radiance HDR"},
    **{".psd": "Photoshop", ".psb": "Photoshop", ".xcf": "GIMP", ".kra": "Krita", ".svg": "SVG", ".eps": "EPS", ".pdf": "PDF"},
}
_CAPTION_TABLES = frozenset({"metadata.jsonl", "metadata.csv"})
_OTHER_TABLES = frozenset({"metadata.parquet", "meta_cap.json", "meta_lat.json"})
_MASK = re.compile(r"(.+)-mask(?:label)?", re.IGNORECASE)  # OneTrainer writes -masklabel
_HEAD_BYTES = 1 << 16
_SHEET_MARK = b"dreambooth\0sheet"  # see write_contact_sheet
_GRID_NAME = re.compile(r"\d{5,}-grid-")
_IGNORED = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", MANIFEST_NAME})


@dataclass(frozen=True)
class FolderListing:
    """The files that may be pictures and the caption files, each in the order of their paths, and what was skipped and why."""

    pictures: tuple[Path, ...]
    captions: tuple[Path, ...]
    problems: tuple[PhotoProblem, ...]
    masks: Mapping[Path, Path] = field(default_factory=dict)
    """Picture to its mask, which is not one of the pictures."""
    caption_tables: tuple[Path, ...] = ()


def list_folder(folder: Path) -> FolderListing:
    """All files below `folder`, sorted by path in a way that does not depend on the file system.

    Hidden files, what systems leave behind (`Thumbs.db`, `__MACOSX`, ...), manifests and latents beside a manifest are passed
    over in silence; links to folders are followed, each folder once. A file is taken for a picture by its suffix or its
    first bytes.
    """
    if not folder.is_dir():
        return FolderListing((), (), (_no_folder(folder),))
    pictures: list[Path] = []
    captions: list[Path] = []
    tables: list[Path] = []
    problems: list[PhotoProblem] = []
    for path in _walk(folder, problems):
        suffix = path.suffix.lower()
        if path.exists() and not path.is_file():
            advice = "Remove it, or move it to another folder."
            problems.append(PhotoProblem(path, "warning", "is a named pipe, a socket or a device; skipped", advice))
        elif suffix == _CLOUD_SUFFIX:
            problems.append(_not_here(path))
        elif path.name.lower() in _CAPTION_TABLES:
            tables.append(path)
        elif suffix in CAPTION_SUFFIXES and path.name.lower() not in _OTHER_TABLES:
            captions.append(path)
        elif suffix == LATENT_SUFFIX and path.with_name(MANIFEST_NAME).is_file():
            continue
        elif suffix == ".png" and _is_sheet(path):
            advice = "Nothing, or move it to another folder."
            problems.append(
                PhotoProblem(path, "warning", "is a sheet of several images that this program wrote; skipped", advice)
            )
        elif suffix in _PICTURES or (suffix not in _RAW and _looks_like_picture(path)):  # raw files look like TIFF
            pictures.append(path)
        else:
            problems.append(_skipped(path, raw=suffix in _RAW))
    named = {stem for path in pictures for stem in (stem_of(path), unicodedata.normalize("NFC", str(path)))}
    others = [path for path in captions if path.suffix.lower() == ".json" and stem_of(path) not in named]
    problems += [_skipped(path, raw=False) for path in others]
    captions = [path for path in captions if path not in set(others)]
    masks = _masks(pictures)
    are_masks = set(masks.values())
    apart = tuple(path for path in pictures if path not in are_masks)
    return FolderListing(apart, tuple(captions), tuple(problems), masks, tuple(tables))


def _no_folder(path: Path) -> PhotoProblem:
    try:
        dataset = hub_dataset(path)
    except SettingsError as error:
        return PhotoProblem(path, "error", error.problems[0], error.hint or "Give a folder.")
    if dataset is not None:
        advice = f"Type `hf download {dataset.repo} --repo-type dataset --local-dir photos`, and give that folder."
        return PhotoProblem(
            path, "error", f"is a dataset on the hub ({dataset}); only train, batch, plan and photos download it", advice
        )
    found = "is a file, not a folder" if path.exists() else "does not exist"
    return PhotoProblem(path, "error", found, "Give the folder that contains the images.")


def photo_files(names: Sequence[str]) -> list[str]:
    """Of the names of files below a folder, with slashes: pictures, masks, captions of pictures, and tables of captions.

    Empty without a picture. Names are all that is looked at, so a picture without a usual suffix is left out.
    """
    paths = [path for path in map(Path, names) if not any(map(_is_ignored, path.parts))]
    pictures = {path for path in paths if path.suffix.lower() in _PICTURES}
    named = {stem for path in pictures for stem in (stem_of(path), unicodedata.normalize("NFC", str(path)))}
    chosen = pictures | {
        path
        for path in paths
        if path.name.lower() in _CAPTION_TABLES or (path.suffix.lower() in CAPTION_SUFFIXES and stem_of(path) in named)
    }
    return [path.as_posix() for path in paths if path in chosen] if pictures else []


def stem_of(path: Path) -> str:
    """The path without its suffix, the same for composed and separate accents: systems write them differently."""
    return unicodedata.normalize("NFC", str(path.with_suffix("")))


def mask_target(path: Path) -> str:
    """The stem of the picture that a mask of this name is for: `rex` for `rex-mask.png` and for `rex.png`."""
    found = _MASK.fullmatch(path.stem)
    return stem_of(path if found is None else path.with_name(found[1] + path.suffix))


def _masks(pictures: list[Path]) -> dict[Path, Path]:
    """Pictures to their masks: `rex-mask.png` is one only beside a picture `rex`, for a gas-mask.png may be a photo."""
    masks = {
        mask_target(path): path for path in pictures if path.suffix.lower() == ".png" and mask_target(path) != stem_of(path)
    }
    return {path: masks[stem] for path in pictures if (stem := stem_of(path)) in masks}


def _walk(folder: Path, problems: list[PhotoProblem]) -> list[Path]:
    def refused(error: OSError) -> None:
        what = f"cannot be listed: {error.strerror}"
        problems.append(PhotoProblem(Path(error.filename), "error", what, "Make it readable, or remove it."))

    files: list[Path] = []
    seen: set[str] = set()
    for place, subfolders, names in os.walk(folder, followlinks=True, onerror=refused):
        real = os.path.realpath(place)
        subfolders[:] = [] if real in seen else sorted(name for name in subfolders if not _is_ignored(name))
        if real not in seen:
            files += [Path(place, name) for name in names if not _is_ignored(name)]
        seen.add(real)
    return sorted(files, key=lambda path: _order(path.relative_to(folder).as_posix()))


def _order(name: str) -> tuple[str, str]:
    return unicodedata.normalize("NFC", name), name  # some file systems take accented letters apart


def _is_ignored(name: str) -> bool:
    is_hidden = name.startswith(".") and not name.lower().endswith(_CLOUD_SUFFIX)
    return is_hidden or name.lower() in _IGNORED


def _not_here(path: Path) -> PhotoProblem:
    name = path.name.removeprefix(".")[: -len(_CLOUD_SUFFIX)]
    advice = "Open the folder in Finder and choose Download Now, then run the same command again."
    return PhotoProblem(path, "warning", f"stands for {name}, which is still in iCloud; skipped", advice)


def _is_sheet(path: Path) -> bool:
    """Whether it is a grid or a contact sheet: by its mark, or by the name and the missing settings of those without one."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return _SHEET_MARK in head or (_GRID_NAME.match(path.name) is not None and b"dreambooth\0" not in head)


def _looks_like_picture(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return signature(file.read(SIGNATURE_BYTES)) is not None
    except OSError:
        return False


def _skipped(path: Path, *, raw: bool) -> PhotoProblem:
    if raw:
        return PhotoProblem(path, "warning", "is a camera raw file; skipped", "Develop it to JPEG or PNG to use it.")
    if (form := _OTHER_FORMATS.get(path.suffix.lower())) is not None:
        what = f"is in the {form} format, which is not supported; skipped"
        return PhotoProblem(path, "warning", what, "Convert it to JPEG or PNG to use it.")
    if path.name.lower() in _OTHER_TABLES:
        advice = "Write its captions into a metadata.jsonl, or each into a .txt file with the name of its image."
        return PhotoProblem(path, "warning", "is a table of captions for another program; skipped", advice)
    return PhotoProblem(path, "warning", "is not an image; skipped", "Nothing, or move it to another folder.")
