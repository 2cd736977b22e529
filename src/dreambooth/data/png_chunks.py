"""PNG files without their texts and overlong color profiles.

Programs that generate pictures keep whole workflows in them. Pillow unpacks every text and profile and refuses a picture
when one is long, and no text is of use here.
"""

from __future__ import annotations

import zlib

from PIL import PngImagePlugin

__all__ = ["without_texts"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_KEPT = b"Raw profile type "  # older programs keep the orientation in such a text
_AROUND = 12  # bytes of a chunk besides its data: length, type, checksum


def without_texts(data: bytes) -> bytes:
    """The bytes of a PNG without its texts and a color profile that Pillow would not unpack.

    Other files, and what is damaged in a PNG, are as they were.
    """
    if not data.startswith(_SIGNATURE):
        return data
    kept, place, is_changed = [_SIGNATURE], len(_SIGNATURE), False
    while place + _AROUND <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        end = place + _AROUND + length
        if end > len(data):
            break
        is_text = kind in _TEXTS and not data.startswith(_KEPT, place + 8)
        if is_text or (kind == b"iCCP" and _is_too_long(data[place + 8 : end - 4])):
            is_changed = True
        else:
            kept.append(data[place:end])
        place = end
    return b"".join([*kept, data[place:]]) if is_changed else data


def _is_too_long(profile: bytes) -> bool:
    """Whether the data of a profile's chunk (name, zero, method, packed profile) unpack to more than Pillow takes."""
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(profile.partition(b"\0")[2][1:], PngImagePlugin.MAX_TEXT_CHUNK)
    except zlib.error:
        return False
    return bool(unpacking.unconsumed_tail)
