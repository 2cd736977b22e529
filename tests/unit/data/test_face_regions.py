"""Faces in the metadata of picture files, turned with the picture, whatever else stands there."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dreambooth.data.decoding import decode
from dreambooth.data.face_regions import MOST_XMP_BYTES, Face, faces_in
from dreambooth.data.size import Size

HEAD = (
    '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    'xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/" '
    'xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#" xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#" '
    'xmlns:MP="http://ns.microsoft.com/photo/1.2/" xmlns:MPRI="http://ns.microsoft.com/photo/1.2/t/RegionInfo#" '
    'xmlns:MPReg="http://ns.microsoft.com/photo/1.2/t/Region#"><rdf:Description rdf:about="">'
)
TAIL = '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'


def area(x: float, y: float, width: float, height: float) -> str:
    return f'<mwg-rs:Area stArea:x="{x}" stArea:y="{y}" stArea:w="{width}" stArea:h="{height}" stArea:unit="normalized"/>'


def regions(*entries: str, size: tuple[int, int] | None = None) -> bytes:
    applied = (
        "" if size is None else f'<mwg-rs:AppliedToDimensions stDim:w="{size[0]}" stDim:h="{size[1]}" stDim:unit="pixel"/>'
    )
    listed = f"<mwg-rs:RegionList><rdf:Bag>{''.join(entries)}</rdf:Bag></mwg-rs:RegionList>"
    return f'{HEAD}<mwg-rs:Regions rdf:parseType="Resource">{applied}{listed}</mwg-rs:Regions>{TAIL}'.encode()


def entry(kind: str, where: str, name: str = "") -> str:
    return f'<rdf:li><rdf:Description mwg-rs:Type="{kind}" mwg-rs:Name="{name}">{where}</rdf:Description></rdf:li>'


def picture(xmp: bytes, *, orientation: int = 1, form: str = "JPEG") -> bytes:
    """40 x 20 pixels, black, with one white pixel block whose place `faces_in` is told by `BLOCK`."""
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[4:8, 8:16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, xmp=xmp, exif=exif, quality=100)
    return file.getvalue()


BLOCK = area(12 / 40, 6 / 20, 8 / 40, 4 / 20)


def found(data: bytes) -> tuple[Face, ...]:
    height, width = decode(data).pixels.shape[:2]
    return faces_in(data, Size(height, width))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["working group", "Microsoft"])
def test_a_face_is_turned_with_its_picture(orientation: int, form: str) -> None:
    if form == "Microsoft":
        rectangle = '<rdf:li><rdf:Description MPReg:Rectangle="0.2, 0.2, 0.2, 0.2"/></rdf:li>'
        inner = f"<MPRI:Regions><rdf:Bag>{rectangle}</rdf:Bag></MPRI:Regions>"
        xmp = f'{HEAD}<MP:RegionInfo rdf:parseType="Resource">{inner}</MP:RegionInfo>{TAIL}'.encode()
    else:
        xmp = regions(entry("Face", BLOCK), size=(40, 20))
    data = picture(xmp, orientation=orientation)
    pixels = decode(data).pixels
    (face,) = found(data)
    rows, columns = (np.flatnonzero((pixels[:, :, 0] > 128).any(axis=axis)) for axis in (1, 0))
    height, width = pixels.shape[:2]
    assert [face.top * height, (face.top + face.height) * height] == pytest.approx([rows[0], rows[-1] + 1])
    assert [face.left * width, (face.left + face.width) * width] == pytest.approx([columns[0], columns[-1] + 1])


def test_faces_and_pets_are_faces_and_other_regions_are_not() -> None:
    values = ("<mwg-rs:Type>Pet</mwg-rs:Type><mwg-rs:Name>Rex</mwg-rs:Name>", '<mwg-rs:Area rdf:parseType="Resource">')
    inner = "".join(f"<stArea:{name}>{value}</stArea:{name}>" for name, value in (("x", 0.5), ("y", 0.5), ("w", 1), ("h", 0.5)))
    as_elements = f'<rdf:li rdf:parseType="Resource">{values[0]}{values[1]}{inner}</mwg-rs:Area></rdf:li>'
    entries = (entry("Focus", BLOCK), entry("BarCode", BLOCK), entry("Face", BLOCK, "Ann &amp; Bo"), as_elements)
    ann, rex = found(picture(regions(*entries)))
    assert ann.name == "Ann & Bo" and rex == Face(0.25, 0.0, 0.5, 1.0, "Rex")


def test_marks_of_a_picture_of_other_proportions_are_left_out() -> None:
    face = entry("Face", BLOCK)
    assert found(picture(regions(face, size=(400, 201))))
    assert not found(picture(regions(face, size=(40, 40)))), "cropped since then"
    turned = picture(regions(face, size=(20, 40)), orientation=6)
    assert found(turned)[0].left == pytest.approx(0.2), "marked in the upright picture"


@pytest.mark.parametrize(
    "where",
    [
        *(
            area(0.5, 0.5, 0, 0.1),
            area(1.5, 0.5, 0.2, 0.2),
            area(0.5, 0.5, float("nan"), 0.2),
            area(0.5, 0.5, float("inf"), 0.1),
        ),
        *('<mwg-rs:Area stArea:x="a" stArea:y="0.5" stArea:w="0.1" stArea:h="0.1"/>', "<mwg-rs:Area/>", ""),
    ],
)
def test_impossible_faces_are_left_out(where: str) -> None:
    assert found(picture(regions(entry("Face", where)))) == ()


def test_a_face_that_reaches_out_of_the_picture_is_cut() -> None:
    (face,) = found(picture(regions(entry("Face", area(0.0, 0.5, 0.5, 0.5)))))
    assert (face.left, face.width) == (0, pytest.approx(0.25))


def test_entities_and_endless_texts_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("Rex", encoding="utf-8")
    good = regions(entry("Face", BLOCK, "Rex")).decode()
    for kind in (f'<!ENTITY n SYSTEM "file://{tmp_path}/secret">', '<!ENTITY n "Rex">'):
        hostile = f"<!DOCTYPE x [{kind}]>" + good.replace('Name="Rex"', 'Name="&n;"')
        assert found(picture(hostile.encode())) == ()
    assert found(picture(good.encode("utf-16"))) == ()
    assert found(picture(good[:-30].encode())) == ()
    many = [entry("Face", area(0.5, 0.5, 0.1, 0.001 * number)) for number in range(1, 120)]
    assert len(found(picture(regions(*many), form="WEBP"))) == 100
    long = good.replace("<rdf:Description rdf:about", f"<!--{'x' * MOST_XMP_BYTES}--><rdf:Description rdf:about")
    assert found(picture(long.encode(), form="WEBP")) == ()


def test_a_png_keeps_its_faces_in_a_text() -> None:
    file, text = io.BytesIO(), PngInfo()
    text.add_itxt("XML:com.adobe.xmp", regions(entry("Face", BLOCK)).decode())
    Image.new("RGB", (40, 20)).save(file, "PNG", pnginfo=text)
    assert len(found(file.getvalue())) == 1
    assert faces_in(b"not a picture", Size(20, 40)) == ()
