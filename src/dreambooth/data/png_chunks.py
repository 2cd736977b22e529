"""PNG files without their texts.

Programs that generate pictures keep whole workflows in them. Pillow unpacks every text and refuses a picture when one is
long, and no text is of use here.
"""

from __future__ import annotations

__all__ = ["without_texts"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_KEPT = b"Raw profile type "  # older programs keep the orientation in such a text
_AROUND = 12  # bytes of a chunk besides its data: length, type, checksum


def without_texts(data: bytes) -> bytes:
    """The bytes of a PNG without its texts; other files, and what is damaged in a PNG, as they are."""
    if not data.startswith(_SIGNATURE):
        return data
    kept, place, is_changed = [_SIGNATURE], len(_SIGNATURE), False
    while place + _AROUND <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        end = place + _AROUND + length
        if end > len(data):
            break
        if kind in _TEXTS and not data.startswith(_KEPT, place + 8):
            is_changed = True
        else:
            kept.append(data[place:end])
        place = end
    return b"".join([*kept, data[place:]]) if is_changed else data
