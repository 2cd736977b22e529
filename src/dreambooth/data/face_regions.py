"""Faces that cameras and photo programs mark in a picture file: XMP regions of the Metadata Working Group and of Microsoft.

The XML is of unknown origin: only a bounded part of it is read, and none that declares entities of its own.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from PIL import Image

from dreambooth.data.size import Size

__all__ = ["MOST_XMP_BYTES", "Face", "faces_in"]

MOST_XMP_BYTES = 1 << 20
"""Longer metadata are left out."""

_MOST_FACES = 100
_ORIENTATION = 0x0112
_TURNED_ON_ITS_SIDE = 5  # and all orientations above: height and width change places
_ASPECT_TOLERANCE = 0.02  # of what a program wrote as the picture's size: rounding, not a crop
_WORD = ".//{{{}}}{}"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_MWG = "http://www.metadataworkinggroup.com/schemas/regions/"
_DIMENSIONS = "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
_AREA = "http://ns.adobe.com/xmp/sType/Area#"
_MP_REGIONS = "http://ns.microsoft.com/photo/1.2/t/RegionInfo#"
_MP_REGION = "http://ns.microsoft.com/photo/1.2/t/Region#"
_FACES = frozenset({"face", "pet"})


@dataclass(frozen=True)
class Face:
    """A face in the upright picture, all numbers as shares of its height or width, and whose it is, if that is written."""

    top: float
    left: float
    height: float
    width: float
    name: str = ""


def faces_in(data: bytes, upright: Size) -> tuple[Face, ...]:
    """The faces marked in a picture file that is `upright` pixels large once it is turned upright.

    Empty for a file without such marks, with marks that cannot be read, or with marks of a picture of other proportions:
    then it was cropped after they were made.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
            orientation = _orientation(image)
        tree = _parsed(xmp)
    except Exception:  # damaged metadata around a whole picture, which was decoded before
        return ()
    if tree is None:
        return ()
    marked = [*_of_working_group(tree, upright, orientation), *(_turned(face, orientation) for face in _of_microsoft(tree))]
    faces = (_inside(face) for face in marked[:_MOST_FACES])
    return tuple(dict.fromkeys(face for face in faces if face is not None))


def _orientation(image: Image.Image) -> int:
    """How the stored picture is turned, 1 to 8, as `decoding` turns it; HEIC is turned when it is opened."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    found = image.info.get("original_orientation") or image.getexif().get(_ORIENTATION)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _parsed(xmp: bytes | str) -> ElementTree.Element | None:
    """The XML, or None without any, if it is too long, or if it declares entities."""
    if not xmp or len(xmp) > MOST_XMP_BYTES:
        return None
    text = xmp if isinstance(xmp, str) else xmp.rstrip(b"\0").decode()
    return None if "<!DOCTYPE" in text or "<!ENTITY" in text else ElementTree.fromstring(text.strip("\ufeff \n"))


def _of_working_group(tree: ElementTree.Element, upright: Size, orientation: int) -> Iterator[Face]:
    for regions in tree.iterfind(_WORD.format(_MWG, "Regions")):
        turning = _turning(regions, upright, orientation)
        if turning is None:
            continue
        for region in _listed(regions, _MWG, "RegionList"):
            area = region.find(f"{{{_MWG}}}Area")
            if area is None or _value(region, _MWG, "Type").lower() not in _FACES:
                continue
            x, y, width, height = (_number(_value(_node(area), _AREA, name)) for name in ("x", "y", "w", "h"))
            face = Face(y - height / 2, x - width / 2, height, width, _value(region, _MWG, "Name"))
            yield _turned(face, turning)


def _of_microsoft(tree: ElementTree.Element) -> Iterator[Face]:
    for region in _listed(tree, _MP_REGIONS, "Regions"):
        numbers = [_number(part) for part in _value(region, _MP_REGION, "Rectangle").split(",")]
        if len(numbers) == 4:
            left, top, width, height = numbers
            yield Face(top, left, height, width, _value(region, _MP_REGION, "PersonDisplayName"))


def _turning(regions: ElementTree.Element, upright: Size, orientation: int) -> int | None:
    """The orientation of the picture that the regions were marked in; None if it had other proportions."""
    dimensions = regions.find(_WORD.format(_MWG, "AppliedToDimensions"))
    if dimensions is None:
        return orientation
    width, height = (_number(_value(_node(dimensions), _DIMENSIONS, name)) for name in ("w", "h"))
    if not (width > 0 and height > 0):
        return orientation
    is_turned = orientation >= _TURNED_ON_ITS_SIDE
    stored = upright.height / upright.width if is_turned else upright.width / upright.height
    if abs(width / height / stored - 1) < _ASPECT_TOLERANCE:
        return orientation
    return 1 if is_turned and abs(width / height * stored - 1) < _ASPECT_TOLERANCE else None


def _listed(place: ElementTree.Element, namespace: str, name: str) -> Iterator[ElementTree.Element]:
    """What holds the values of each entry of a list of RDF."""
    for found in place.iterfind(_WORD.format(namespace, name)):
        for entry in found.iterfind(_WORD.format(_RDF, "li")):
            yield _node(entry)


def _node(element: ElementTree.Element) -> ElementTree.Element:
    """What holds the values of an element: itself, or the description inside it."""
    inside = element.find(f"{{{_RDF}}}Description")
    return element if inside is None else inside


def _value(node: ElementTree.Element, namespace: str, name: str) -> str:
    """A value, which is an attribute or an element; empty without it."""
    tag = f"{{{namespace}}}{name}"
    return (node.get(tag) or node.findtext(tag) or "").strip()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _turned(face: Face, orientation: int) -> Face:
    """A face of the stored picture in the upright one."""
    top, left, height, width = face.top, face.left, face.height, face.width
    bottom, right = 1 - top - height, 1 - left - width
    turned = {
        2: (top, right, height, width),
        3: (bottom, right, height, width),
        4: (bottom, left, height, width),
        5: (left, top, width, height),
        6: (left, bottom, width, height),
        7: (right, bottom, width, height),
        8: (right, top, width, height),
    }
    return Face(*turned.get(orientation, (top, left, height, width)), face.name)


def _inside(face: Face) -> Face | None:
    """The part of a face within the picture; None if there is none, or if it has no size."""
    numbers = (face.top, face.left, face.height, face.width)
    if not all(map(math.isfinite, numbers)) or min(face.height, face.width) <= 0:
        return None
    top, left = max(0.0, face.top), max(0.0, face.left)
    height, width = min(1.0, face.top + face.height) - top, min(1.0, face.left + face.width) - left
    return Face(top, left, height, width, face.name) if min(height, width) > 0 else None
