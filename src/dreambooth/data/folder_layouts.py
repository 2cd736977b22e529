"""What the folders of a run say about what their person meant: several subjects, class images, another trainer's layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dreambooth.data.captions import place_in, settings_of
from dreambooth.data.pictures import Pictures
from dreambooth.data.records import Photo
from dreambooth.data.repeat_folders import RepeatFolder, repeat_folder, without_parents
from dreambooth.data.settings import PriorSettings, SubjectSettings, ViewSettings
from dreambooth.display import counted, listed, quoted

__all__ = ["crop_warnings", "layout_warnings"]

_CLASS_IMAGES = frozenset(
    ("reg", "regs", "reg_images", "regularization", "regularisation", "regularization_images", "class", "class_images")
)
_MASKS = frozenset({"mask", "masks", "masklabel", "masklabels"})
_MOST_NAMED = 4


def crop_warnings(pictures: Pictures, views: ViewSettings) -> list[str]:
    """Sentences when photos are to be cropped around a subject that neither a mask nor a marked face shows."""
    if views.crop != "subject":
        return []
    photos = [one.photo for one in pictures.photos]
    num = counted(len(photos), "photo")
    salient = [photo for photo in photos if photo.focus is not None and photo.focus.source == "saliency"]
    unknown = [photo for photo in photos if photo.subject_box is None]
    told = (
        (salient, "cropped around what stands out, which `dreambooth photos` shows"),
        (unknown, "cropped in the middle"),
    )
    return [
        f"crop is subject, but {len(some)} of {num} {'has' if len(some) == 1 else 'have'} no mask and no marked face, such as "
        f"{some[0].path.name}: {'it is' if len(some) == 1 else 'they are'} {how}"
        for some, how in told
        if some
    ]


def layout_warnings(pictures: Pictures, subject: SubjectSettings, prior: PriorSettings) -> list[str]:
    """Sentences about folders that hardly mean what they would be taken for."""
    own = (one.prior_images for one in subject.subjects)
    given = [folder for folder in (prior.prior_images, *prior.also_prior, *own) if folder is not None]
    warnings = list[str]()
    for one in subject.each():
        photos = tuple(photo for photo in pictures.photos if settings_of(photo.photo, subject).photos == one.photos)
        shown = replace(pictures, photos=photos)
        warnings += [
            *_repeats(shown, one, given),
            *_class_images_among_photos(shown, one, given),
            *_masks_among_photos(shown, one),
            *_several_subjects(shown, one, given),
        ]
    return list(dict.fromkeys(warnings))


def _repeats(pictures: Pictures, subject: SubjectSettings, given: list[Path]) -> Iterator[str]:
    photos = _repeat_folders(pictures, subject.photos, is_prior=False)
    found = dict.fromkeys((*photos, *(one for folder in given for one in _repeat_folders(pictures, folder, is_prior=True))))
    if not found:
        return
    names = listed([f"'{one.name}'" for one in found], most=_MOST_NAMED)
    repeats = ", ".join(str(number) for number in dict.fromkeys(one.repeats for one in found))
    has_captions = any(one.photo.path.with_suffix(".caption").is_file() for one in pictures.photos)
    yield (
        f"{names} {'is' if len(found) == 1 else 'are'} named as kohya's trainer names folders. The repeats ({repeats}) are not "
        "needed: each photo is seen equally often, and --steps decides how often"
        + (". Its .caption files are read like .txt files" if has_captions else "")
    )
    others = [one for one in photos if one.token != subject.token and " ".join(one.words) != subject.class_word]
    if others and subject.captions == "prompt" and any(one.photo.caption is None for one in pictures.photos):
        first = others[0]
        words = f"--token {quoted(first.token)}" + (f" --class-word {quoted(first.class_word)}" if first.class_word else "")
        yield (
            f"the name '{first.name}' is not read as a caption, and the token is '{subject.token}'. To use the name: {words}, "
            "or --captions filename"
        )


def _repeat_folders(pictures: Pictures, folder: Path, *, is_prior: bool) -> list[RepeatFolder]:
    images = pictures.given_priors if is_prior else pictures.photos
    found = []
    for one in images:
        if one.photo.path.absolute().is_relative_to(folder.absolute()):
            parts = (folder.absolute().name, *place_in(folder, one.photo).parts[:-1])
            first = without_parents(parts)[0]
            if (named := repeat_folder(first)) is not None:
                found.append(named)
    return list(dict.fromkeys(found))


def _class_images_among_photos(pictures: Pictures, subject: SubjectSettings, given: list[Path]) -> Iterator[str]:
    below = [folder for folder in given if _is_below(folder, subject.photos)]
    for folder in below:
        num = sum(_is_below(one.photo.path, folder) for one in pictures.photos)
        yield (
            f"the class images in {folder} lie below the photos in {subject.photos}, so {_trained(num)}: move that folder out "
            "of it"
        )
    places = Counter(place for one in pictures.photos if (place := _class_folder(one.photo, subject)) is not None)
    for folder, num in places.items():
        if not any(folder.absolute() == one.absolute() for one in below):
            advice = f"give the folder of the photos alone to --photos, and --prior-images {quoted(folder)}"
            yield f"{folder} is named like class images, and {_trained(num)}: {advice}"


def _masks_among_photos(pictures: Pictures, subject: SubjectSettings) -> Iterator[str]:
    """Masks in a folder below the photos have the names of photos, so they are taken for photos."""
    folders = Counter(one.photo.path.parent for one in pictures.photos if one.photo.path.parent.name.lower() in _MASKS)
    for folder, num in folders.items():
        if folder.absolute() != subject.photos.absolute():
            advice = f"move it out of {subject.photos} and give it to --mask-folder"
            yield f"{folder} is named like masks, and {_trained(num)}: {advice}"


def _class_folder(photo: Photo, subject: SubjectSettings) -> Path | None:
    """The folder below the photos that holds a photo and is named like class images."""
    for parent in place_in(subject.photos, photo).parents:
        if parent.name.lower().replace("-", "_").replace(" ", "_") in _CLASS_IMAGES:
            return subject.photos / parent
    return None


def _is_below(path: Path, folder: Path) -> bool:
    return path.absolute() != folder.absolute() and path.absolute().is_relative_to(folder.absolute())


def _trained(num: int) -> str:
    return f"{counted(num, 'picture')} in it {'is' if num == 1 else 'are'} trained as photos of the subject"


def _several_subjects(pictures: Pictures, subject: SubjectSettings, given: list[Path]) -> Iterator[str]:
    """Photos of several folders under one name, without those that are meant to be class images."""
    if subject.captions != "prompt":
        return
    unnamed = [
        one
        for one in pictures.photos
        if one.photo.caption is None
        and _class_folder(one.photo, subject) is None
        and not any(_is_below(one.photo.path, folder) for folder in given if _is_below(folder, subject.photos))
    ]
    folders = dict.fromkeys(place_in(subject.photos, one.photo).parent for one in unnamed)
    if len(folders) > 1:
        names = listed([str(folder) for folder in folders], most=_MOST_NAMED)
        yield (
            f"the photos lie in {len(folders)} folders ({names}), and all are captioned '{unnamed[0].caption}'. If they show "
            "different subjects, name each folder after its token, with a folder of its class inside, and use "
            "--captions filename"
        )
