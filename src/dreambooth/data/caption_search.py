"""Which captions belong to which picture, and which files of captions do not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dreambooth.data.caption_files import read_captions
from dreambooth.data.caption_tables import read_caption_table, unknown_names
from dreambooth.data.listing import CAPTION_SUFFIXES, FolderListing, stem_of
from dreambooth.data.problems import PhotoProblem
from dreambooth.data.records import Role
from dreambooth.errors import PhotoError

__all__ = ["find_captions"]


def find_captions(listing: FolderListing, role: Role, problems: list[PhotoProblem]) -> dict[str, tuple[str, ...]]:
    """Caption templates by the stem of their picture: of the file beside it, else of a table. Adds to `problems`."""
    captions = _beside(listing.captions, listing.pictures, role, problems)
    known = frozenset(map(stem_of, listing.pictures))
    for path in listing.caption_tables:
        try:
            table = read_caption_table(path, role=role)
        except PhotoError as error:
            problems.append(PhotoProblem(path, "error", error.problems[0], error.hint or "Remove it."))
            continue
        if (what := unknown_names(table, known)) is not None:
            problems.append(PhotoProblem(path, "warning", what, "Correct their file_name, or remove these lines."))
        if twice := [stem for stem in table if captions.get(stem)]:
            what = f"has a caption for {Path(twice[0]).name}, which has a caption file; the file is used"
            problems.append(PhotoProblem(path, "warning", what, "Keep the caption that you want, and remove the other."))
        captions = {**table, **{stem: found for stem, found in captions.items() if found}}
    return captions


def _beside(
    files: Sequence[Path], pictures: Sequence[Path], role: Role, problems: list[PhotoProblem]
) -> dict[str, tuple[str, ...]]:
    stems = {stem_of(picture): stem_of(picture) for picture in pictures}
    # photo.png.txt is the caption of photo.png as well
    stems |= {stem_of(picture.with_name(f"{picture.name}.txt")): stem_of(picture) for picture in pictures}
    captions: dict[str, tuple[str, ...]] = {}
    for path in sorted(files, key=lambda file: CAPTION_SUFFIXES.index(file.suffix.lower())):
        stem = stems.get(stem_of(path))
        if stem is None:
            advice = "Give it the name of its image with the suffix .txt, or remove it."
            problems.append(PhotoProblem(path, "warning", "is a caption without an image; skipped", advice))
            continue
        if stem in captions:
            advice = "Keep the caption that you want, and remove the other."
            problems.append(PhotoProblem(path, "warning", "is a second caption of its image; skipped", advice))
            continue
        try:
            captions[stem] = read_captions(path, role=role)
        except PhotoError as error:
            problems.append(PhotoProblem(path, "error", error.problems[0], error.hint or "Remove it."))
            continue
        if not captions[stem]:
            advice = "Write a caption, or remove the file."
            problems.append(PhotoProblem(path, "warning", "is an empty caption; skipped", advice))
    return captions
