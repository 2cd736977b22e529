"""The photos of a project: cards with the square that training sees, captions and problems."""

from __future__ import annotations

from starlette.responses import Response

from dreambooth.data.listing import CAPTION_SUFFIXES, list_folder
from dreambooth.errors import RunError
from dreambooth.files import write_text
from dreambooth.web.answers import Answer, Call, Moved, Page
from dreambooth.web.forms import fields_of
from dreambooth.web.photo_cards import other_problems, photo_cards
from dreambooth.web.projects import Project
from dreambooth.web.screens import framed, photo_report, project_of, training_size
from dreambooth.web.uploads import Received, receive

__all__ = ["photos", "picture", "remove", "set_caption", "upload"]

_FIELDS = ("views.crop", "views.flip_probability", "subject.captions")
_SIDES = {"small": 480, "large": 1600}
_LONGEST_CAPTION = 2000
_NOTHING = Received()


def photos(call: Call) -> Answer:
    """The cards of all photos."""
    return Page("photos.html", _values(call, project_of(call)))


def upload(call: Call) -> Answer:
    """Add photos, captions and ZIP files of them."""
    project = project_of(call)
    return Page("photos.html", _values(call, project, receive(call.files, project.photos)))


def remove(call: Call) -> Answer:
    """Remove a photo, its caption and its mask."""
    project = project_of(call)
    path = call.desk.photos.path(project.photos, call.names["photo"])
    if (mask := list_folder(project.photos).masks.get(path)) is not None:
        mask.unlink()  # first: without its photo it would be one
    for file in (path, *(path.with_suffix(suffix) for suffix in CAPTION_SUFFIXES)):
        file.unlink(missing_ok=True)
    return Moved(f"/projects/{project.name}/photos")


def set_caption(call: Call) -> Answer:
    """Write the caption of a photo; an empty one is removed, so that the usual one is used."""
    project = project_of(call)
    path = call.desk.photos.path(project.photos, call.names["photo"])
    caption = " ".join(call.value("caption").split())
    if len(caption) > _LONGEST_CAPTION:
        raise RunError(f"the caption has more than {_LONGEST_CAPTION} letters")
    suffixes = list(CAPTION_SUFFIXES)
    if caption:  # written before others are removed, so that a full disk takes none away
        write_text(path.with_suffix(suffixes.pop(0)), caption + "\n")
    for suffix in suffixes:
        path.with_suffix(suffix).unlink(missing_ok=True)
    return Moved(f"/projects/{project.name}/photos#photo-{call.names['photo']}")


def picture(call: Call) -> Answer:
    """A photo, made anew as a JPEG without the original's metadata."""
    project = project_of(call)
    side = _SIDES.get(call.query.get("size", "small"), _SIDES["small"])
    return Response(call.desk.photos.picture(project.photos, call.names["photo"], side), media_type="image/jpeg")


def _values(call: Call, project: Project, received: Received = _NOTHING) -> dict[str, object]:
    report = photo_report(call, project)
    crop = str(project.notes.settings.get("views.crop", "center"))
    template = str(project.notes.settings.get("subject.instance_prompt", "photo of a {token} {class_word}"))
    return framed(
        call,
        project,
        "photos",
        photos=photo_cards(
            project.photos, report, caption=_filled(project, template), crop=crop, resolution=training_size(project)
        ),
        problems=other_problems(project.photos, report),
        num_errors=len(report.errors),
        num_usable=len(report.photos),
        refused=received.refused,
        kept=received.kept,
        fields=fields_of(project, _FIELDS),
    )


def _filled(project: Project, template: str) -> str:
    settings = project.notes.settings
    token, class_word = settings.get("subject.token", "sks"), settings.get("subject.class_word", "")
    return template.replace("{token}", str(token)).replace("{class_word}", str(class_word)).strip()
