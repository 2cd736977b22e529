"""Photos in archives: unpacked once, and nothing in them reaches outside."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from dreambooth.data import archives
from dreambooth.data.archives import is_archive, unpack
from dreambooth.data.settings import SubjectSettings
from dreambooth.errors import PhotoError
from dreambooth.trainer.photo_folders import with_photo_folders

FILES = {"rex/1.jpg": b"one", "rex/1.txt": b"a {token}", "2.jpg": b"two"}


def as_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("rex/", b"")
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return path


def as_tar(path: Path, files: dict[str, bytes], *others: tarfile.TarInfo) -> Path:
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for other in others:
            archive.addfile(other)
    return path


def written(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def problem(archive: Path, into: Path) -> str:
    with pytest.raises(PhotoError) as caught:
        unpack(archive, into)
    assert caught.value.hint
    assert not into.exists() or not list(into.iterdir()), "nothing is left behind"
    return str(caught.value.problems[0]).removeprefix(f"{archive}: ")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.TAR.bz2"])
def test_an_archive_is_unpacked_once_by_its_content(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    archive = as_zip(path, FILES) if name.endswith("zip") else as_tar(path, FILES)
    assert is_archive(archive)
    folder = unpack(archive, tmp_path / "into")
    assert folder.name.startswith("a-") and written(folder) == FILES
    (folder / "2.jpg").write_bytes(b"still there")
    assert unpack(archive, tmp_path / "into") == folder
    assert (folder / "2.jpg").read_bytes() == b"still there", "it is not unpacked again"


def test_another_content_is_another_folder(tmp_path: Path) -> None:
    one = unpack(as_zip(tmp_path / "a.zip", FILES), tmp_path / "into")
    other = unpack(as_zip(tmp_path / "a.zip", {"3.jpg": b"three"}), tmp_path / "into")
    assert one != other and written(other) == {"3.jpg": b"three"}


@pytest.mark.parametrize(
    "name",
    ["../out.jpg", "a/../../out.jpg", "/etc/out.jpg", "\\out.jpg", "..\\out.jpg", "C:\\out.jpg", "c:out.jpg", "a/..", ".."],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    below = tmp_path / "deep" / "deeper"
    below.mkdir(parents=True)
    archive = (as_zip if kind == "zip" else as_tar)(below / f"a.{kind}", {"1.jpg": b"one", name: b"out"})
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert "leads out of it" in problem(archive, below / "into")
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("link.jpg")
    member.type, member.linkname = kind, "/etc/passwd"
    archive = as_tar(tmp_path / "a.tar", {"1.jpg": b"one"}, member)
    assert problem(archive, tmp_path / "into") == "holds link.jpg, a link or a device"


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert problem(tmp_path / "a.zip", tmp_path / "into") == "holds link.jpg, a link or a device"


def test_sizes_are_counted_and_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_BYTES", 1 << 20)
    zeros = bytes(700_000)
    for archive in (as_zip(tmp_path / "a.zip", {"a": zeros, "b": zeros}), as_tar(tmp_path / "a.tgz", {"a": zeros, "b": zeros})):
        assert archive.stat().st_size < 10_000
        assert problem(archive, tmp_path / "into") == "holds more than 0 GiB of files"
    monkeypatch.setattr(archives, "MOST_FILES", 2)
    assert problem(as_zip(tmp_path / "b.zip", FILES), tmp_path / "into") == "holds more than 2 files"


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    archive = as_tar(tmp_path / "a.tar", {"1.jpg": b"one", "./1.jpg": b"two"})
    assert problem(archive, tmp_path / "into") == "holds ./1.jpg twice"


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    data = bytearray(as_zip(tmp_path / "a.zip", {"1.jpg": b"one"}, zipfile.ZIP_STORED).read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    assert problem(tmp_path / "a.zip", tmp_path / "into") == "is encrypted"


@pytest.mark.parametrize("data", [b"", b"no archive", b"PK\x03\x04"])
@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_a_damaged_archive_is_an_error(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert problem(tmp_path / name, tmp_path / "into") == "cannot be unpacked (it is damaged, or a part of it is missing)"
    assert not (tmp_path / "into").exists()


def test_a_cut_archive_is_an_error(tmp_path: Path) -> None:
    archive = as_tar(tmp_path / "a.tar.gz", {"1.jpg": bytes(range(256)) * 999})
    archive.write_bytes(archive.read_bytes()[:-200])
    assert problem(archive, tmp_path / "into").startswith("cannot be unpacked (")


def test_settings_name_the_unpacked_folder(tmp_path: Path) -> None:
    subject = SubjectSettings(photos=as_zip(tmp_path / "rex.zip", FILES), class_word="dog")
    folder = with_photo_folders(subject, tmp_path / "into").photos
    assert written(folder) == FILES
    plain = SubjectSettings(photos=tmp_path, class_word="dog")
    assert with_photo_folders(plain, tmp_path / "into") is plain
