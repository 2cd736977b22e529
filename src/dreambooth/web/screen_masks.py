"""The mask of a photo: painted in the browser or uploaded, and held to the same checks as training's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from starlette.responses import Response

from dreambooth.data.listing import list_folder
from dreambooth.data.masks import mask_of_file, transparency_of
from dreambooth.data.records import Photo
from dreambooth.errors import RunError
from dreambooth.files import atomic_file, free_disk_bytes
from dreambooth.pages.thumbnails import gray_png, paint_png
from dreambooth.web.answers import Answer, Call, Moved, Page
from dreambooth.web.photo_cards import photo_id
from dreambooth.web.projects import Project
from dreambooth.web.screens import framed, photo_report, project_of
from dreambooth.web.uploads import LEAST_FREE_BYTES, MOST_PHOTO_BYTES

__all__ = ["draw", "mask", "remove_mask", "set_mask"]

_LONGER_SIDE, _SHORTER_SIDE = 1024, 256
_SHADE = 0.65
"""How dark a card shows what a mask leaves out."""


@dataclass(frozen=True)
class _Found:
    project: Project
    photo: Photo
    mask: Path | None
    """The mask file beside the photo."""

    @property
    def place(self) -> Path:
        """Where a mask of it is written."""
        return self.photo.path.with_name(f"{self.photo.path.stem}-mask.png")


def draw(call: Call) -> Answer:
    """Paint the mask of a photo, or upload one."""
    found = _found(call)
    width, height = _canvas_size(found.photo)
    values = {
        "photo": photo_id(found.photo.path, found.project.photos),
        "name": found.photo.path.name,
        "width": width,
        "height": height,
        "has_mask": found.mask is not None,
    }
    return Page("draw.html", framed(call, found.project, "photos", **values))


def mask(call: Call) -> Answer:
    """A PNG to lay over a photo: a shade on what its mask leaves out, or with `view=paint` white on what it shows."""
    found = _found(call)
    if found.mask is None:
        raise RunError("no mask is beside this photo")
    shown = transparency_of(found.mask.read_bytes())
    size = _canvas_size(found.photo)
    if call.query.get("view") == "paint":
        return Response(paint_png(shown, white=True, opacity=1, size=size), media_type="image/png")
    return Response(paint_png(255 - shown, white=False, opacity=_SHADE, size=size), media_type="image/png")


def set_mask(call: Call) -> Answer:
    """Write the mask of a photo: white is the subject. Raises PhotoError for what is no picture or has other proportions."""
    found = _found(call)
    if len(call.files) != 1 or not call.files[0].filename:
        raise RunError("no mask was sent", hint="Choose a picture: white is the subject, black is not.")
    content = call.files[0].file.read(MOST_PHOTO_BYTES + 1)
    if len(content) > MOST_PHOTO_BYTES:
        raise RunError(f"the mask is larger than {MOST_PHOTO_BYTES >> 20} MB")
    if free_disk_bytes(found.project.photos) < LEAST_FREE_BYTES + len(content):
        raise RunError("there is no room left on the disk", hint="Make room, and try again.")
    picture = gray_png(transparency_of(content))
    with atomic_file(found.place) as partial:
        partial.write_bytes(picture)
        if mask_of_file(partial, found.photo).box is None:
            raise RunError("the mask marks nothing", hint="Paint the subject white, or remove the mask.")
    if found.mask is not None and found.mask != found.place:
        found.mask.unlink()
    return Moved(f"/projects/{found.project.name}/photos#photo-{call.names['photo']}")


def remove_mask(call: Call) -> Answer:
    """Remove the mask beside a photo."""
    found = _found(call)
    if found.mask is not None:
        found.mask.unlink()
    return Moved(f"/projects/{found.project.name}/photos#photo-{call.names['photo']}")


def _found(call: Call) -> _Found:
    project = project_of(call)
    path = call.desk.photos.path(project.photos, call.names["photo"])
    photo = next((one for one in photo_report(call, project).photos if one.path == path), None)
    if photo is None:
        raise RunError("this photo cannot be used, so it has no mask", hint="Its card says what is wrong with it.")
    beside = list_folder(project.photos).masks.get(path)
    is_own = beside is not None and beside.resolve().is_relative_to(project.photos.resolve())
    return _Found(project, photo, beside if is_own else None)


def _canvas_size(photo: Photo) -> tuple[int, int]:
    """Width and height of what is painted on; large enough that rounding keeps the photo's proportions."""
    longer, shorter = max(photo.width, photo.height), min(photo.width, photo.height)
    scale = min(1.0, max(_LONGER_SIDE / longer, _SHORTER_SIDE / shorter))
    return round(photo.width * scale), round(photo.height * scale)
