"""`dreambooth caption`: captions that say what is not the subject, by a model that answers questions about photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dreambooth.data.captions import fixed
from dreambooth.data.photos import read_pixels, scan_photos
from dreambooth.data.records import Photo
from dreambooth.display import Display, counted
from dreambooth.files import write_text
from dreambooth.measures.captioner import BLIP, Captioner, load_captioner
from dreambooth.measures.settings import CaptionSettings
from dreambooth.runtime.device import choose_device
from dreambooth.trainer.preflight_tables import show_warnings
from dreambooth.weights.hub import fetch_captioner
from dreambooth.weights.transformers_folder import transformers_folder

__all__ = ["WrittenCaptions", "write_captions"]

_BEGINNING = "photo of a {token} {class_word}"
_SAYS_NOTHING = frozenset({"", "yes", "no", "none", "nothing", "unknown", "not sure"})


@dataclass(frozen=True)
class WrittenCaptions:
    """The caption files that were written, and the photos that already had a caption."""

    written: tuple[Path, ...]
    kept: tuple[Path, ...]


def write_captions(settings: CaptionSettings, display: Display) -> WrittenCaptions:
    """Write NAME.txt beside each photo NAME that has no caption; captions that exist are kept.

    A caption begins with placeholders for the token and the class word, so it always says the token, and goes on with the
    answers. Raises PhotoError for photos that cannot be used, and ModelFileError for a model that cannot be.
    """
    report = scan_photos(settings.photos, role="instance", resolution=1)
    show_warnings(report.warnings, display)
    report.raise_if_errors()
    without = [photo for photo in report.photos if photo.caption is None]
    kept = [photo.path for photo in report.photos if photo.caption is not None]
    rows, written = list[tuple[str, str]](), list[Path]()
    if without:
        folder = transformers_folder(settings.captioner, example=BLIP, fetch=fetch_captioner)
        captioner = load_captioner(folder, device=choose_device(settings.device))
        questions = [question.format(class_word=settings.class_word) for question in settings.questions]
        with display.progress("writing captions", len(without), "photos") as advance:
            for photo in without:
                path = photo.path.with_suffix(".txt")
                if path.is_file() and path.stat().st_size > 0:  # of another photo with the same name
                    kept.append(photo.path)
                else:
                    caption = _caption(photo, captioner, questions, settings.class_word)
                    write_text(path, f"{caption}\n")
                    written.append(path)
                    rows.append((photo.path.name, caption))
                advance(1)
    if rows:
        display.table("Captions", ("photo", "caption"), rows)
    display.say(
        f"{counted(len(written), 'caption')} written, {len(kept)} kept. Correct them in any text editor, and delete a file to "
        "have it written again"
    )
    return WrittenCaptions(tuple(written), tuple(kept))


def _caption(photo: Photo, captioner: Captioner, questions: Sequence[str], class_word: str) -> str:
    """The words of the subject, then each answer that says something else, once."""
    pixels = read_pixels(photo.path, background="white")
    answers = dict.fromkeys(captioner.answer(pixels, question).strip(" .,") for question in questions)
    said = [fixed(answer) for answer in answers if answer.lower() not in {*_SAYS_NOTHING, class_word.lower()}]
    return ", ".join([_BEGINNING, *said])
